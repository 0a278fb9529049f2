"""One trial of a search as a search of its own: the recipe to copy, with the same stages, so the same weights."""

from typing import Any

from pydantic import BaseModel

from search.config import SearchConfig
from search.space import SpaceConfig
from search.written import plain
from trainables.recipe import DOMAINS, Recipe, fields, options_of, reads


def one_trial(config: SearchConfig, recipe: Recipe, *, seeds: int, keep_store: bool = True) -> dict[str, Any]:
    """The values of a search file that tries this recipe and nothing else, under the name NAME-KEY.

    seeds       replicates, the first of which are those of the search
    keep_store  False leaves out the search's store, so that all of it is trained again

    Data that the recipe does not read is left out, and so are constraints, objectives beside the metric and budgets.
    """
    given = plain(config)
    space = _space(config, recipe)
    data = given["data"]
    for domain in DOMAINS:
        if not reads(recipe.schedule, domain):
            data.pop(domain, None)
        elif used := recipe.sources(domain):
            data[domain] = {name: packs for name, packs in data[domain].items() if name in used}
    given |= {
        "name": f"{config.name}-{recipe.key[:8]}",
        "space": space,
        "objective": {"metric": config.objective.metric, "mode": config.objective.mode},
        "budget": {
            "trials": 1,
            "steps": config.budget.steps,
            "rungs": list(config.budget.evaluations),
            "seeds": seeds,
        },
        "sampler": "grid",
    }
    for name in ("pruner", "constraints", "enqueue", "slots", "tracking"):
        given.pop(name, None)
    given.pop("store", None)
    if keep_store and config.store.uri is not None:
        given["store"] = {"uri": config.store.uri}
    if "references" in data and SpaceConfig.model_validate(space).needs_references() is None:
        del data["references"]
    return given


def _space(config: SearchConfig, recipe: Recipe) -> dict[str, Any]:
    """The space of one point."""
    space: dict[str, Any] = {"schedule": [recipe.schedule]}
    for name in fields(recipe.schedule):
        value = getattr(recipe, name)
        if value is None or name == "schedule":
            continue
        if isinstance(value, BaseModel):
            space[name] = {part: [inner] for part, inner in options_of(value).items()}
        elif isinstance(value, str) and "+" in value:
            space[name] = [value.split("+")]
        else:
            space[name] = [value]
    encoded = config.space.adain_image
    if "adain_image" in space and encoded is not None:
        files = {name: getattr(encoded, name) for name in ("encoder", "decoder")}
        space["adain_image"] |= {name: weights.path for name, weights in files.items() if weights is not None}
    return space
