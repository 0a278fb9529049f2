"""Labels: what a trial's run is called in MLflow's tables, and the tags that they are filtered by.

`titrate.*` tags are for programs (analysis/runs.py). These have the plain names that a person types into MLflow's
search box: `tags.schedule = 'finetune' and tags.real_fraction = '0.25' and tags.status = 'finished'`.
"""

from trainables.recipe import DOMAINS, Recipe

STATUS, COST = "status", "cost"  # tags that change: see Tracker.trial_ended


def run_name(recipe: Recipe, seed: int, number: int) -> str:
    """`#12 finetune 25% dsbn lr=0.0031 s0`: the recipe's number, what mostly tells it from others, and the seed.

    The percentage is of the real images; of the synthetic ones it is given where not all are used.
    """
    words = [f"#{number}", recipe.schedule]
    for domain, prefix in zip(DOMAINS, ("", "syn="), strict=True):
        fraction, source = getattr(recipe, f"{domain}_fraction"), getattr(recipe, f"{domain}_source")
        if fraction is not None and (domain == "real" or fraction < 1 or source):
            words.append(f"{prefix}{100 * fraction:.3g}%" + (f" of {source}" if source else ""))
    share = recipe.synthetic_share
    if share is not None:
        words.append(f"share={share if isinstance(share, str) else format(share, '.2g')}")
    if recipe.adaptation not in (None, "none"):
        words.append(str(recipe.adaptation))
    return " ".join([*words, f"lr={recipe.lr:.2g}", f"s{seed}"])


def filter_tags(recipe: Recipe, seed: int) -> dict[str, str]:
    """The tags that never change. What the schedule settles is filled in: `real_only` has the synthetic share 0 and
    the adaptation `none`; a share that is no single number (`gradual`, or a stage before the last) is absent."""
    share = recipe.synthetic_share
    if share is None:
        share = {"real_only": 0.0, "synthetic_only": 1.0}.get(recipe.schedule)
    tags = {
        "schedule": recipe.schedule,
        "adaptation": recipe.adaptation or "none",
        "real_fraction": _number(recipe.real_fraction or 0.0),
        "seed": str(seed),
    }
    return tags if share is None else tags | {"synthetic_share": _number(share)}


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else format(value, ".6g")
