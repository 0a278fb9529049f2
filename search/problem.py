"""From a search file to a Problem: the packs opened, verified and checked against the task before anything starts."""

from dataclasses import dataclass

from datasets import Pack, Source
from search.config import SearchConfig
from search.tracking import DatasetFact
from trainables.recipe import Recipe
from trainables.stage import Problem, SourceFacts

DOMAINS = ("real", "synthetic")
CONTEXTS = {"real": "train", "synthetic": "train", "val": "validation"}


@dataclass(frozen=True)
class Opened:
    """A search's data, opened: the problem, the sets by name and the facts that MLflow shows of each pack."""

    problem: Problem
    sources: dict[str, Source]
    facts: list[DatasetFact]  # of every pack, each set's under its context

    @property
    def digests(self) -> dict[str, str]:
        return {name: source.digest for name, source in self.sources.items()}

    def facts_of(self, recipe: Recipe) -> list[DatasetFact]:
        """The packs that a recipe reads: the domains that it trains on, and every evaluation set."""
        trained = [domain for domain in DOMAINS if getattr(recipe, f"{domain}_fraction") is not None]
        paths = {p.path for name, s in self.sources.items() if name in trained or name not in DOMAINS for p in s.packs}
        return [fact for fact in self.facts if fact.source in paths]


def open_problem(config: SearchConfig) -> Opened:
    """Opens and verifies every pack. Raises PackError or ValueError, one line, on the first that is missing or damaged,
    or cannot serve the task."""
    import torch

    from trainables.task import build_task

    task = build_task(config.task)
    sources: dict[str, Source] = {}
    facts = []
    verified: set[str] = set()
    for name, paths in config.data.sets().items():
        packs = [Pack.open(path) for path in paths]
        for pack in packs:
            if pack.path not in verified:
                pack.verify()
                task.check_pack(pack)
                verified.add(pack.path)
            context = CONTEXTS.get(name, "test")
            facts.append(
                DatasetFact(pack.path.rstrip("/").rpartition("/")[2], context, pack.digest, pack.path, len(pack))
            )
        sources[name] = Source(packs)
    _refuse_leaks(sources)
    metrics = [f"val/{name}" for name in task.evaluator(torch.device("cpu")).compute()]
    if config.objective.metric not in metrics:
        raise ValueError(f"objective.metric must be one of {', '.join(metrics)}; but got {config.objective.metric!r}")

    def source_facts(name: str) -> SourceFacts | None:
        source = sources.get(name)
        return SourceFacts(source.digest, len(source)) if source else None

    pretrain = config.space.pretrain
    problem = Problem(
        task=config.task,
        training=config.training,
        real=source_facts("real"),
        synthetic=source_facts("synthetic"),
        rungs=config.budget.evaluations,
        forks=tuple(sorted(pretrain.steps)) if pretrain else (),
        seed=config.seed,
    )
    return Opened(problem, sources, facts)


def _refuse_leaks(sources: dict[str, Source]) -> None:
    """An evaluation pack that is also trained on makes every number a lie."""
    training = {pack.digest: name for name in ("real", "synthetic") if name in sources for pack in sources[name].packs}
    for name, source in sources.items():
        for pack in source.packs if name not in ("real", "synthetic") else ():
            if pack.digest in training:
                raise ValueError(
                    f"data.{name.replace('/', '.')}: {pack.path} must not be a training pack, but"
                    f" data.{training[pack.digest]} has the same content; evaluate on images that no recipe trains on"
                )
