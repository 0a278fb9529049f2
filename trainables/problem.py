"""Problem: what a search holds fixed, and which rows of its data a recipe reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from datasets.mix import subset_count
from datasets.translation.spec import AdainImage, TranslationSpec
from trainables.methods import IMAGE_METHODS, Schedule, reads_references
from trainables.recipe import DomainName, Recipe
from trainables.specs import TaskSpec
from trainables.stage import Rows, Training


@dataclass(frozen=True)
class SourceFacts:
    """What a key needs to know of a source: the digest of its packs and how many rows they have."""

    digest: str
    rows: int


@dataclass(frozen=True)
class Problem:
    """What a search holds fixed: the task, the data it may use, the training defaults and the lengths.

    real, synthetic  what recipes read that name no source of the domain: all of its packs
    rungs  steps of the last stage at which it is evaluated, ascending; the last one is its length
    forks  the lengths that an earlier stage may have, ascending: paths may leave a trunk at each of them
    trunks the schedules whose recipes other paths of the search may begin with, and so keep the forks
    backgrounds  digest of what people are put before in training, where the task composes
    references  real images without labels, for methods that read some in recipes without labelled ones
    encoder  the files of `adain_image`, where it has any
    choices  what recipes read that name a source, by domain and by that name: {"real": {"original+refined": ...}}
    """

    task: TaskSpec
    training: Training
    real: SourceFacts | None
    synthetic: SourceFacts | None
    rungs: tuple[int, ...]
    forks: tuple[int, ...] = ()
    trunks: tuple[Schedule, ...] = ("synthetic_only",)
    seed: int = 0
    backgrounds: str | None = None
    references: SourceFacts | None = None
    encoder: AdainImage | None = None
    choices: Mapping[DomainName, Mapping[str, SourceFacts]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.rungs[-1]

    def counts(self, recipe: Recipe) -> dict[str, int]:
        """How many images a recipe sees, by what they cost: labelled real, unlabelled real, synthetic."""
        real, synthetic = self.rows(recipe)
        references = self.references_of(recipe, real)
        return {
            "num_real_labels": real.count if real else 0,
            "num_real_unlabelled": references.count if references and not real else 0,
            "num_synthetic": synthetic.count if synthetic else 0,
        }

    def references_of(self, recipe: Recipe, real: Rows | None) -> Rows | None:
        """The real images that a recipe's method reads without labels: its own labelled ones, where it has them."""
        if not reads_references(recipe.adaptation):
            return None
        if real is None and self.references is None:
            raise ValueError(
                f"data.references must name a pack of real images for {recipe.schedule} with {recipe.adaptation},"
                " which reads some, but it is absent"
            )
        facts = self.references
        return real if facts is None or real is not None else Rows(facts.digest, facts.rows, facts.rows)

    def translation_of(self, recipe: Recipe) -> TranslationSpec | None:
        """How a recipe translates synthetic images, with the search's files where the method has some."""
        if recipe.adaptation not in IMAGE_METHODS:
            return None
        spec: TranslationSpec = recipe.options
        if isinstance(spec, AdainImage) and self.encoder is not None:
            return self.encoder.model_copy(update={"strength": spec.strength})
        return spec

    def rows(self, recipe: Recipe) -> tuple[Rows | None, Rows | None]:
        return self._select("real", self.real, recipe), self._select("synthetic", self.synthetic, recipe)

    def _select(self, domain: DomainName, united: SourceFacts | None, recipe: Recipe) -> Rows | None:
        source, fraction = getattr(recipe, f"{domain}_source"), getattr(recipe, f"{domain}_fraction")
        if fraction is None:
            return None
        if source is None and united is None:
            raise ValueError(f"data.{domain} must name a pack for recipes that read {domain} images, but it is absent")
        facts = united if source is None else self.choices.get(domain, {}).get(source)
        if facts is None:
            known = ", ".join(self.choices.get(domain, {})) or "none"
            raise ValueError(f"{domain}_source must be a source of the search, one of {known}, but got {source!r}")
        return Rows(digest=facts.digest, total=facts.rows, count=subset_count(facts.rows, fraction))
