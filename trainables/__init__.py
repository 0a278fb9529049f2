"""What does one trial do? Recipes, stages, the store and the training loop; runs without Ray, Tune or MLflow."""
