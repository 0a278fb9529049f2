"""From a search file to a Problem: the packs opened, verified and checked against the task before anything starts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets import Pack, Source
from datasets.compositing import Compositor, Scenes
from datasets.uri import is_uri
from search.config import DataConfig, SearchConfig, trains
from search.tracking import DatasetFact
from trainables.methods import reads_references
from trainables.path import TRUNKS
from trainables.problem import Problem, SourceFacts
from trainables.recipe import DOMAINS, DomainName, Recipe, reads

if TYPE_CHECKING:
    from trainables.task import Task


@dataclass(frozen=True)
class Opened:
    """A search's data, opened: the problem, the sets by name and the facts that MLflow shows of each pack.

    sources  by the names of SearchConfig.sets
    digests  what old trials must agree with: of all sources of a domain together ("real") or, where the space varies
             the source, of each ("real.NAME"); of "val" and of each "test/NAME"
    """

    problem: Problem
    sources: dict[str, Source]
    facts: list[DatasetFact]
    digests: dict[str, str]
    scenes: Scenes | None

    @property
    def training(self) -> list[Source]:
        return [source for name, source in self.sources.items() if trains(name)]

    @property
    def packs(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """(place, digest) of the packs of each set: what another process needs to open the same ones."""
        return {name: _addresses(source.packs) for name, source in self.sources.items()}

    @property
    def backgrounds(self) -> dict[str, tuple[tuple[str, str], ...]]:
        """The same of the packs behind people, by "train" and "evaluation"; nothing where there are none."""
        return {use: _addresses(packs) for use, packs in self.scenes.packs.items()} if self.scenes else {}

    def facts_of(self, recipe: Recipe) -> list[DatasetFact]:
        """The packs that a recipe reads: the sources that it trains on, and every evaluation set."""
        read = {name for name in self.sources if not trains(name)}
        for domain in DOMAINS:
            if reads(recipe.schedule, domain):
                source = getattr(recipe, f"{domain}_source")
                read.add(domain if source is None else f"{domain}/{source}")
        if reads_references(recipe.adaptation) and not reads(recipe.schedule, "real"):
            read.add("references")
        paths = {pack.path for name in read for pack in self.sources[name].packs}
        if self.scenes is not None:
            paths |= {pack.path for packs in self.scenes.packs.values() for pack in packs}
        return [fact for fact in self.facts if fact.source in paths]


def open_problem(config: SearchConfig, *, verify: bool = True) -> Opened:
    """Opens and verifies every pack, each once. Raises PackError or ValueError, one line, on the first that is missing
    or damaged, or cannot serve the task.

    verify  False reads no pack as a whole: for a search that was run, to know its stages
    """
    import torch

    from trainables.run import freeze
    from trainables.task import build_task

    scenes = _open_scenes(config.data, verify)
    task = build_task(config.task, scenes)
    if config.task.pretrained is not None:
        for spec in (*(phase.spec for phase in config.task.phases), config.task):
            one = build_task(spec, scenes)
            one.initialise(one.build_model(), config.seed)  # says now what every slot would find out
    for parts in (set(value.split("+")) - {"nothing"} for value in config.space.freeze or ()):
        try:
            freeze(task.build_model(), tuple(sorted(parts)))
        except ValueError as error:
            raise ValueError(f"space.freeze: {error}") from None
    sets = config.sets()
    packs: dict[str, Pack] = {}
    for path in (path for paths in sets.values() for path in paths):
        if path not in packs:
            packs[path] = _opened(path, verify)
            if path not in config.data.reference_packs():
                task.check_pack(packs[path])
    _check_references([packs[path] for path in config.data.reference_packs()], task, packs[sets["val"][0]])
    sources = {name: Source([packs[path] for path in paths], read_columns(name, task)) for name, paths in sets.items()}
    _refuse_leaks(config.data, packs)
    metrics = [f"val/{name}" for name in task.evaluator(torch.device("cpu")).compute()]
    if config.objective.metric not in metrics:
        raise ValueError(f"objective.metric must be one of {', '.join(metrics)}; but got {config.objective.metric!r}")
    for name in config.constraints:
        if name.startswith("val/") and name not in metrics:
            raise ValueError(f"constraints must bound metrics of {', '.join(metrics)}; but got {name!r}")
    facts = {name: SourceFacts(source.digest, len(source)) for name, source in sources.items()}
    choices: dict[DomainName, dict[str, SourceFacts]] = {}
    digests: dict[str, str] = {}
    for domain in DOMAINS:
        values = config.space.sources(domain)
        if values is not None:
            choices[domain] = {value: facts[f"{domain}/{value}"] for value in values}
            for name, paths in config.data.named(domain).items():
                digests[f"{domain}.{name}"] = Source([packs[path] for path in paths], task.columns).digest
    digests |= {name: one.digest for name, one in facts.items() if not (trains(name) and "/" in name)}
    if scenes is not None:
        digests |= {"backgrounds.train": scenes.training.digest, "backgrounds.evaluation": scenes.evaluation.digest}
    pretrain = config.space.pretrain
    problem = Problem(
        task=config.task,
        training=config.training,
        real=facts.get("real"),
        synthetic=facts.get("synthetic"),
        rungs=config.budget.evaluations,
        forks=tuple(sorted(pretrain.steps)) if pretrain else (),
        trunks=tuple(trunk for trunk, whole in TRUNKS.items() if whole in config.space.schedule),
        seed=config.seed,
        backgrounds=scenes.training.digest if scenes else None,
        references=facts.get("references"),
        encoder=config.space.adain_image.files if config.space.adain_image else None,
        choices=choices,
    )
    return Opened(problem, sources, _facts(sources, scenes), digests, scenes)


def read_columns(name: str, task: "Task") -> tuple[str, ...]:
    """The columns that a set of `SearchConfig.sets` is read for."""
    return task.unlabelled_columns if name == "references" else task.columns


def _check_references(references: Iterable[Pack], task: "Task", like: Pack) -> None:
    """Images without labels must be as those of the other packs are."""
    wanted = {column.name: column for column in like.manifest.columns}
    for pack in references:
        columns = {column.name: column for column in pack.manifest.columns}
        for name in task.unlabelled_columns:
            if columns.get(name) != wanted[name]:
                given = f"is {columns[name]}" if name in columns else f"the pack has {', '.join(columns)}"
                raise ValueError(
                    f"{pack.path}: column {name!r} of data.references must be {wanted[name]} as in {like.path},"
                    f" but {given}; write the pack at that resolution"
                )


def _open_scenes(data: DataConfig, verify: bool) -> Scenes | None:
    behind = data.background_packs()
    if not behind:
        return None
    for name, paths in behind.items():
        if len(set(paths)) != len(paths):
            raise ValueError(f"data.backgrounds.{name} must name each pack once, but got {list(paths)}")
    opened = {name: [_opened(path, verify) for path in paths] for name, paths in behind.items()}
    seen = {pack.digest for pack in opened["train"]}
    for pack in opened["evaluation"]:
        if pack.digest in seen:
            raise ValueError(
                f"data.backgrounds.evaluation: {pack.path} must not be one that is trained on, but"
                " data.backgrounds.train has the same content; evaluate before other backgrounds"
            )
    return Scenes(Compositor.over(opened["train"]), Compositor.over(opened["evaluation"]))


def _addresses(packs: Iterable[Pack]) -> tuple[tuple[str, str], ...]:
    return tuple((pack.place, pack.digest) for pack in packs)


def _opened(path: str, verify: bool) -> Pack:
    pack = Pack.open(path)
    if verify and not is_uri(path):  # the cache verifies what it fetches
        pack.verify()
    return pack


def _facts(sources: dict[str, Source], scenes: Scenes | None) -> list[DatasetFact]:
    """Each pack once under each context that it has."""
    found: dict[tuple[str, str], DatasetFact] = {}
    for name, source in sources.items():
        context = "train" if trains(name) else "validation" if name == "val" else "test"
        for pack in source.packs:
            fact = DatasetFact(pack.name, context, pack.digest, pack.path, len(pack))
            found.setdefault((pack.path, context), fact)
    for use, packs in scenes.packs.items() if scenes else ():
        for pack in packs:
            fact = DatasetFact(pack.name, f"{use} backgrounds", pack.digest, pack.path, len(pack))
            found.setdefault((pack.path, fact.context), fact)
    return list(found.values())


def _refuse_leaks(data: DataConfig, packs: dict[str, Pack]) -> None:
    """An evaluation pack that is also trained on makes every number a lie."""
    training = {
        packs[path].digest: f"{domain}.{name}"
        for domain in DOMAINS
        for name, paths in data.named(domain).items()
        for path in paths
    }
    training |= {packs[path].digest: "references" for path in data.reference_packs()}
    for name, paths in data.evaluation.items():
        for pack in (packs[path] for path in paths):
            if pack.digest in training:
                raise ValueError(
                    f"data.{name.replace('/', '.')}: {pack.path} must not be a training pack, but"
                    f" data.{training[pack.digest]} has the same content; evaluate on images that no recipe trains on"
                )
