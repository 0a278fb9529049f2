"""preflight: what a search will cost before it starts: steps alone, shared and still to train; time, memory and disk
as measured here."""

import io
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Any

import optuna

from datasets.mix import rarest
from datasets.uri import reason
from search.config import SearchConfig
from search.cost import Costs
from search.forecast import Forecast, forecast
from search.problem import Opened
from search.study import num_recipes
from trainables.path import Leg, Path, steps_alone, steps_shared
from trainables.recipe import Recipe
from trainables.stage import Stage

WARM_STEPS, MEASURED_STEPS = 2, 6


@dataclass(frozen=True)
class Preflight:
    """The estimate of a search. Seconds and bytes are measured on this machine, on one path, with the search's threads.

    exact  whether `recipes` are the very ones that will run (a grid), or a seeded sample of what the sampler may draw
    sources  how many recipes read each source that the space varies: {"real_source": {"refined": 4}}
    shared_recipes  how many recipes share a stage with another
    ahead   what of that is still to do
    unread  why the store could not be read, so that nothing counts as stored
    checkpoints  distinct (stage, step) whose checkpoints stay: rungs, forks and ends
    shared  one line for each stage that several recipes share, those that save most first
    rare    one line for each recipe whose batches hold less than one sample of a domain on average
    """

    recipes: int
    distinct: int
    exact: bool
    replicates: int
    stages: Counter[str]
    sources: dict[str, Counter[str]]
    steps_alone: int
    steps_shared: int
    shared_recipes: int
    ahead: Forecast
    unread: str | None
    checkpoints: int
    shared: tuple[str, ...]
    rare: tuple[str, ...]
    step_s: float
    evaluation_s: float
    checkpoint_bytes: int
    process_bytes: int
    parameters: int

    @property
    def train_s(self) -> float:
        """Slot-seconds of training and evaluating, all slots together."""
        return self.ahead.steps_expected * self.step_s + self.ahead.evaluations_expected * self.evaluation_s

    def disk_bytes(self, slots: int) -> int:
        """Bytes of checkpoints: those that stay, and the rolling one of each slot."""
        return self.checkpoint_bytes * (self.checkpoints + slots)


def preflight(config: SearchConfig, opened: Opened, store: str | None = None) -> Preflight:
    """Enumerates (or samples) the recipes, counts their steps and trains a few steps of one of them.

    `store` is the URI of the search's; what it has in the division of this machine's numerics need not be trained.
    """
    recipes = _recipes(config)
    replicates = config.budget.seeds
    costs = Costs(opened.problem)
    paths = [[costs.path(recipe, r) for r in range(replicates)] for recipe in recipes]
    flat = [path for group in paths for path in group]
    users = Counter(key for group in paths for key in {leg.stage.key for path in group for leg in path})
    shared = sum(any(users[leg.stage.key] > 1 for path in group for leg in path) for group in paths)
    # The one that costs most a step: mixed before one domain.
    heaviest = max(paths, key=lambda group: (group[0][-1].stage.synthetic_share is not None, len(group[0])))[0]
    measured = _measure(config, opened, heaviest)
    unread = None
    if store is not None:
        costs, unread = _with_store(config, opened, store, costs, recipes)
    return Preflight(
        recipes=len(recipes),
        distinct=len({recipe.key for recipe in recipes}),
        exact=config.sampler == "grid",
        replicates=replicates,
        stages=Counter(recipe.schedule for recipe in recipes),
        sources={
            axis: Counter(getattr(recipe, axis) for recipe in recipes if getattr(recipe, axis) is not None)
            for axis in (f"{domain}_source" for domain in opened.problem.choices)
        },
        steps_alone=steps_alone(flat),
        steps_shared=steps_shared(flat),
        shared_recipes=shared,
        ahead=forecast(config, costs, recipes, _tests(opened)),
        unread=unread,
        checkpoints=len({(leg.stage.key, s) for path in flat for leg in path for s in (*leg.keep, leg.steps)}),
        shared=_shared(recipes, paths),
        rare=_rare({str(recipe): group[0] for recipe, group in zip(recipes, paths, strict=True)}),
        **measured,
    )


def _recipes(config: SearchConfig) -> list[Recipe]:
    if config.sampler == "grid":
        return config.space.enumerate()[: config.budget.trials]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=config.seed))
    return [config.space.suggest(study.ask()) for _ in range(num_recipes(config))]


def _with_store(
    config: SearchConfig, opened: Opened, uri: str, costs: Costs, recipes: list[Recipe]
) -> tuple[Costs, str | None]:
    """Costs that know what the store has, or those without it and why it could not be read."""
    from trainables.numerics import division
    from trainables.store import Store

    part = division(_device(config), world_size=config.slots.workers)
    known = Costs(opened.problem, store_of=lambda namespace: Store(uri, f"{part}/{namespace}".rstrip("/")))
    try:
        known.together((recipe, r) for recipe in recipes for r in range(config.budget.seeds))
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        return costs, reason(error)
    return known, None


def _tests(opened: Opened) -> float:
    """The passes over `val` that one evaluation of the test sets is, by their rows."""
    tests = sum(len(source) for name, source in opened.sources.items() if name.startswith("test/"))
    return tests / len(opened.sources["val"])


def _device(config: SearchConfig) -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() and config.slots.gpus_per_worker else "cpu")


def _shared(recipes: list[Recipe], paths: list[list[Path]]) -> tuple[str, ...]:
    """Which stages of the first replicate are trained once for several recipes, and what they are to each."""
    users: dict[str, list[tuple[str, Leg]]] = {}
    for recipe, group in zip(recipes, paths, strict=True):
        name = recipe.schedule + (f" + {recipe.adaptation}" if recipe.adaptation not in (None, "none") else "")
        for k, leg in enumerate(group[0]):
            part = "all" if len(group[0]) == 1 else "the end" if k == len(group[0]) - 1 else "the trunk"
            users.setdefault(leg.stage.key, []).append((f"{part} of {{}} {name}", leg))
    lines = []
    for shared in users.values():
        if len(shared) > 1:
            steps = [leg.steps for _, leg in shared]
            parts = " and ".join(text.format(count) for text, count in Counter(text for text, _ in shared).items())
            lines.append((sum(steps) - max(steps), f"{max(steps):,} steps {_described(shared[0][1].stage)}: {parts}"))
    return tuple(f"{text}; saves {saved:,} steps a seed" for saved, text in sorted(lines, key=lambda one: -one[0]))


def _described(stage: Stage) -> str:
    """What a stage trains on: `on 160 real and 2000 synthetic images with dsbn at lr 0.05`."""
    rows = {"real": stage.real, "synthetic": stage.synthetic}
    images = " and ".join(f"{one.count} {domain}" for domain, one in rows.items() if one is not None)
    method = stage.translation.method if stage.translation else stage.adaptation
    return f"on {images} images" + (f" with {method}" if method != "none" else "") + f" at lr {stage.lr:.4g}"


def _rare(paths: dict[str, Path]) -> tuple[str, ...]:
    """Nothing is wrong with a batch without a real image, but few would have meant it."""
    lines = []
    for recipe, path in paths.items():
        stage = path[-1].stage
        size, share = stage.training.batch_size, stage.synthetic_share
        if not isinstance(share, float):
            continue
        domain, samples = rarest(size, share)
        if samples < 1:
            lines.append(
                f"{recipe}: a batch of {size} with a synthetic share of {share:.4g}"
                f" holds a {domain.name.lower()} image every {float(1 / samples):.3g} steps; set a synthetic_share"
                " nearer to 0.5, or raise training.batch_size"
            )
    return tuple(lines)


def _measure(config: SearchConfig, opened: Opened, path: Path) -> dict[str, Any]:
    """Seconds a step and an evaluation, bytes of a checkpoint and of a process: trains here, and saves nothing."""
    import torch

    from trainables.loop import Trainer
    from trainables.numerics import set_deterministic
    from trainables.store import Store

    set_deterministic(config.slots.threads)
    trainer = Trainer(
        config.task,
        opened.training,
        val=opened.sources["val"],
        tests={},
        store_of=lambda namespace: Store("mock://", namespace),
        device=_device(config),
        scenes=opened.scenes,
    )
    run, step_s, evaluation_s = trainer.measure(path[-1].stage, WARM_STEPS, MEASURED_STEPS)
    body = io.BytesIO()
    torch.save(run.state(), body)
    return {
        "step_s": step_s,
        "evaluation_s": evaluation_s,
        "checkpoint_bytes": body.tell(),
        "process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parameters": sum(p.numel() for p in run.model.parameters()),
    }
