"""DataConfig: the packs of a search, by what they are for."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from trainables.recipe import DomainName


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _name(value: str) -> str:
    if not value or not all(c.isalnum() or c in "-_." for c in value) or value[0] in "-.":
        raise ValueError(
            f"must be letters, digits, '-', '_' or '.', and begin with a letter or digit, but got {value!r}"
        )
    return value


Name = Annotated[str, AfterValidator(_name)]


def _some(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if not value:
        raise ValueError(f"must name at least one pack, but got {value if value == '' else list(value)!r}")
    return value


# A pack (a path, or a URI that pyarrow opens), or several that are read one after another.
Packs = Annotated[str | tuple[str, ...], AfterValidator(_some)]
NamedPacks = dict[Name, Packs]


def paths_of(packs: Packs) -> tuple[str, ...]:
    return (packs,) if isinstance(packs, str) else packs


class BackgroundsConfig(Frozen):
    """What matting puts people before, in training and in evaluation: packs of pictures, as `pack panoramas` makes."""

    train: Packs
    evaluation: Packs


class DataConfig(Frozen):
    """Named sources of packs. `real` and `synthetic` train, `val` chooses, `test` is only reported.

    A recipe reads all sources of a domain, one after another, or those that the space's `real_source` and
    `synthetic_source` give it.

    references  real images without labels, for methods that read some (`adabn`, `fda` and so on) in `synthetic_only`;
                other schedules have labelled ones, and read those
    """

    real: NamedPacks = Field(default_factory=dict)
    synthetic: NamedPacks = Field(default_factory=dict)
    references: Packs | None = None
    val: Packs
    test: NamedPacks = Field(default_factory=dict)
    backgrounds: BackgroundsConfig | None = None

    def background_packs(self) -> dict[str, tuple[str, ...]]:
        """The pack paths of the backgrounds: "train" and "evaluation"; nothing where there are none."""
        return {name: paths_of(packs) for name, packs in self.backgrounds} if self.backgrounds else {}

    def reference_packs(self) -> tuple[str, ...]:
        """The pack paths of the real images without labels; none where there are none."""
        return paths_of(self.references) if self.references is not None else ()

    def named(self, domain: DomainName) -> dict[str, tuple[str, ...]]:
        """The pack paths of each source of a domain, by its name."""
        sources: NamedPacks = getattr(self, domain)
        return {name: paths_of(packs) for name, packs in sources.items()}

    @property
    def evaluation(self) -> dict[str, tuple[str, ...]]:
        """The pack paths of the sets that nothing is trained on: "val", "test/NAME"."""
        return {"val": paths_of(self.val)} | {f"test/{name}": paths_of(packs) for name, packs in self.test.items()}
