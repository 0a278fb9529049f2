"""The search file: one YAML file as frozen pydantic models, checked before anything starts.

Unknown keys are refused, and every error is one line that names the file, the field, the value and what was expected.
"""

from pathlib import Path
from typing import Literal

from optuna.distributions import CategoricalDistribution, FloatDistribution
from pydantic import Field, ValidationError, model_validator

from datasets.settings import explain, read_mapping
from datasets.uri import is_uri, reason, redacted
from search.budget import (
    BudgetConfig,
    Constraints,
    Enqueued,
    ObjectiveConfig,
    Pruner,
    PrunerConfig,
    StoreConfig,
    StorePlace,
)
from search.data import BackgroundsConfig, DataConfig, Frozen, Name, Packs
from search.shape import SlotsConfig
from search.space import SpaceConfig
from trainables.recipe import DOMAINS, DomainName
from trainables.specs import TaskSpec
from trainables.stage import Training


class ConfigError(ValueError):
    """A search file that cannot be run; one line: file, field, value, what was expected."""


class TrackingConfig(Frozen):
    """uri: None is MLFLOW_TRACKING_URI where it is set, else SQLite and local artifacts under the results folder.

    report      whether there is a report of the search, kept up to date while it runs
    best_model  whether a search that has finished leaves its best model: its weights, its predictions as pictures, and
                the model in MLflow's registry, as `titrate-NAME`
    """

    uri: str | None = None
    experiment: str = "titrate"
    report: bool = True
    best_model: bool = True


class SearchConfig(Frozen):
    """A search, as a value. Paths are absolute, and unions name sources in the order of `data`, once `load` read it."""

    name: Name
    task: TaskSpec
    data: DataConfig
    space: SpaceConfig
    objective: ObjectiveConfig = ObjectiveConfig()
    budget: BudgetConfig
    training: Training = Training()
    sampler: Literal["tpe", "gp", "cmaes", "nsga", "qmc", "random", "grid"] = "tpe"
    pruner: Pruner | None = None  # None: asha where there are rungs and no grid
    constraints: Constraints = Field(default_factory=dict)
    enqueue: Enqueued = ()  # recipes that are tried first
    seed: int = Field(default=0, ge=0)
    slots: SlotsConfig = SlotsConfig()
    tracking: TrackingConfig = TrackingConfig()
    store: StorePlace = StoreConfig()

    @model_validator(mode="after")
    def _data_for_every_schedule(self) -> "SearchConfig":
        for domain in DOMAINS:
            readers = self.space.readers(domain)
            if readers and not getattr(self.data, domain):
                raise ValueError(
                    f"data.{domain} must name a pack, since {readers[0]} reads {domain} images;"
                    " add one, or take it out of space"
                )
            if not readers and getattr(self.data, domain):
                raise ValueError(
                    f"data.{domain} names packs, but no schedule of space.schedule reads them; take them out"
                )
            self._check_sources(domain)
        method = self.space.needs_references()
        if (method is not None) != (self.data.references is not None):
            why = f"be given, since synthetic_only with {method} reads" if method else "be left out: no recipe reads"
            raise ValueError(f"data.references must {why} real images without labels")
        if self.task.composes != (self.data.backgrounds is not None):
            must = "must be given" if self.task.composes else "must be left out"
            raise ValueError(f"data.backgrounds {must} for task.kind {self.task.kind}, and nothing else has them")
        if self.task.composes and self.training.augmentation == "device":
            raise ValueError(
                f"training.augmentation must not be device for task.kind {self.task.kind}: it composes in the loader"
            )
        if self.training.lr_schedule == "poly" and len(self.budget.evaluations) > 1:
            raise ValueError(
                f"budget.rungs must be left out with training.lr_schedule poly, whose end counts alone, but got"
                f" {list(self.budget.rungs)}"
            )
        if self.sampler != "grid" and self.budget.trials is None:
            raise ValueError(f"budget.trials must be given for sampler {self.sampler}, but it is absent")
        self._check_sampler()
        for k, given in enumerate(self.enqueue):
            try:
                self.space.params_of(given)
            except ValueError as error:
                raise ValueError(f"enqueue[{k}].{error}") from None
        return self

    def _check_sampler(self) -> None:
        """Each sampler in a space that it can search: what it cannot see it would draw at random."""
        sampler, domains = self.sampler, self.space.domains()
        if sampler == "grid" and (name := self.space.continuous()):
            raise ValueError(
                f"space.{name} must be a list for sampler grid, but got a range; list the values, or use tpe"
            )
        if sampler in ("gp", "cmaes") and (name := self.space.uneven()):
            raise ValueError(
                f"sampler {sampler} needs recipes that all have the same parameters, but only some have {name};"
                " list one schedule, and no method with options of its own, or use tpe"
            )
        if sampler != "cmaes":
            return
        lists = [name for name, one in domains.items() if isinstance(one, CategoricalDistribution) and not one.single()]
        if lists:
            raise ValueError(
                f"space.{lists[0]} must be a range or one value for sampler cmaes, but lists several;"
                " give a range, or use gp"
            )
        if (ranges := sum(isinstance(one, FloatDistribution) for one in domains.values())) < 2:
            raise ValueError(f"space must have at least two ranges for sampler cmaes, but has {ranges}; use gp")
        if self.objective.against:
            raise ValueError(
                f"objective.against must be left out for sampler cmaes, which has one objective, but got"
                f" {list(self.objective.against)}; use nsga"
            )

    def _check_sources(self, domain: DomainName) -> None:
        values, known = self.space.sources(domain), list(getattr(self.data, domain))
        if values is None:
            return
        axis, used = f"space.{domain}_source", {name for value in values for name in value.split("+")}
        if strangers := [name for value in values for name in value.split("+") if name not in known]:
            raise ValueError(f"{axis} must name sources of data.{domain}, {known}, but got {strangers[0]!r}")
        if idle := [name for name in known if name not in used]:
            raise ValueError(
                f"data.{domain}.{idle[0]} must be in a value of {axis}, but is in none; add it there, or take it out"
            )

    @property
    def pruning(self) -> PrunerConfig:
        """The pruner, whether it was named or not."""
        if self.pruner is not None:
            return self.pruner
        alone = self.sampler == "grid" or len(self.budget.evaluations) == 1
        return PrunerConfig(kind="none" if alone else "asha")

    def sets(self) -> dict[str, tuple[str, ...]]:
        """The pack paths of everything that a recipe may train on or is evaluated on.

        "real" and "synthetic" are all sources of the domain, one after another; where the space varies the source it
        is "real/NAME" for each value of its axis. Then "val" and "test/NAME". A domain without packs is absent.
        """
        found: dict[str, tuple[str, ...]] = {}
        for domain in DOMAINS:
            named = self.data.named(domain)
            choices = self.space.sources(domain)
            unions = {domain: list(named)} if choices is None else {f"{domain}/{c}": c.split("+") for c in choices}
            found |= {key: tuple(path for name in names for path in named[name]) for key, names in unions.items()}
        found["references"] = self.data.reference_packs()
        return {name: packs for name, packs in (found | self.data.evaluation).items() if packs}


def trains(name: str) -> bool:
    """Whether recipes train on a set of `SearchConfig.sets`, by its name."""
    return name == "references" or name.partition("/")[0] in DOMAINS


def load(path: str | Path) -> SearchConfig:
    """Reads a search file. Raises ConfigError with one line on anything that is wrong with it."""
    path = Path(path)
    try:
        raw = read_mapping(path, "the search file", "name:, task:, data: ...")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; see search/examples/") from None
    try:
        config = SearchConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, SearchConfig)}") from None
    try:
        config = _resolve(config, path.resolve().parent)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if config.store.uri:
        _check_store(path, config.store.uri)
    return config


def _check_store(path: Path, store: str) -> None:
    """A store that no process could open is known here, before every slot fails on it."""
    from pyarrow import fs

    try:
        fs.FileSystem.from_uri(store)
    except (ValueError, OSError) as error:  # pyarrow's own errors are both
        raise ConfigError(
            f"{path}: store: must be a folder or a URI that pyarrow opens (file://, s3://, gs://, abfs://),"
            f" but got {redacted(store)!r}: {reason(error)}"
        ) from None


def _resolve(config: SearchConfig, folder: Path) -> SearchConfig:
    """The same search with every path absolute, relative ones being meant from the search file's folder, the names of
    each union in the order of `data`, and published weights identified (ValueError when they cannot be read)."""

    def absolute(path: str) -> str:
        return path if is_uri(path) else str((folder / Path(path).expanduser()).resolve())

    def packs(value: Packs) -> Packs:
        return absolute(value) if isinstance(value, str) else tuple(absolute(path) for path in value)

    data = config.data
    resolved = DataConfig(
        real={name: packs(value) for name, value in data.real.items()},
        synthetic={name: packs(value) for name, value in data.synthetic.items()},
        references=data.references and packs(data.references),
        val=packs(data.val),
        test={name: packs(value) for name, value in data.test.items()},
        backgrounds=data.backgrounds
        and BackgroundsConfig(train=packs(data.backgrounds.train), evaluation=packs(data.backgrounds.evaluation)),
    )
    store = config.store.model_copy(update={"uri": absolute(config.store.uri)}) if config.store.uri else config.store
    space = config.space.ordered({domain: tuple(getattr(data, domain)) for domain in DOMAINS})
    if space.adain_image is not None and space.adain_image.encoder is not None:
        try:
            files = space.adain_image.files.identified(folder)
        except ValueError as error:
            raise ValueError(f"space.adain_image: {error}") from None
        update = {"encoder": files.encoder, "decoder": files.decoder}
        space = space.model_copy(update={"adain_image": space.adain_image.model_copy(update=update)})
    task = config.task
    if task.pretrained is not None:
        try:
            task = task.model_copy(update={"pretrained": task.pretrained.identified(folder)})
        except ValueError as error:
            raise ValueError(f"task.pretrained: {error}") from None
    return config.model_copy(update={"data": resolved, "space": space, "store": store, "task": task})
