"""search: what to try next, and where does it run? Tune decides, Train trains, Optuna proposes, MLflow records."""
