"""A population: the distributions that people and pictures are drawn from, as one short YAML file.

A file has a mapping for each noun of person.py (identity, expression, pose, hair, ...) and, in it, a distribution for
each field (distribution.py has the grammar of numbers and choices). What the fields mean is said where they are drawn
(draw.py, setting.py). Besides:

    base: studio          take every field that is not given here from another population (a ready name, or a path
                          relative to this file); a field is replaced as a whole
    series: 0             populations of one series share their random numbers: seed 7 is the same person in each, but
                          for the fields that differ. Another series gives other people.
    expression.groups     a list of {percent, intensity, names}: that share of the pictures shows one of the named
                          expressions (all that expressions.py has, without names) at an intensity; the rest is neutral
    identity.shape        {nose: 0.35, ...}: standard deviation of the local shapes' weights by family (shapes.py), 0
                          where not named; identity.shape_mean {nose-hump: 0.2, ...} moves the mean of single shapes
    labels                this domain's labelling habits: nose_outer skin|nose; glasses background|ignore; grow {class:
                          thousandths of the frame's width by which the labeller draws it larger, negative: smaller}
    percent               of a field's name ending in `_percent`: how often it happens, 0 to 100

Ready ones lie in populations/: studio, street, landmark_study.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError

from datasets.faces.nouns import (
    Backgrounds,
    Cameras,
    Clothing,
    Expressions,
    FacialHairs,
    Frozen,
    Hairs,
    Identities,
    Labels,
    Lights,
    Poses,
    Worn,
)
from datasets.faces.person import Person
from datasets.faces.shapes import ShapeSpread
from datasets.settings import Library, explain

LIBRARY = Library("population", Path(__file__).resolve().parent / "populations", "identity:, pose: ...")


class PopulationError(ValueError):
    """A population that cannot be drawn from; one line: file, field, value, what was expected."""


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"must be a whole number of at least 0, but got {value!r}")
    return value


class Population(Frozen):
    """What a file says, complete."""

    series: Annotated[int, BeforeValidator(_whole)] = 0
    identity: Identities
    expression: Expressions
    pose: Poses
    hair: Hairs
    facial_hair: FacialHairs
    accessories: Worn
    clothes: Clothing
    light: Lights
    camera: Cameras
    background: Backgrounds
    labels: Labels = Labels()

    @cached_property
    def shapes(self) -> ShapeSpread:
        return ShapeSpread.of(self.identity.shape, self.identity.shape_mean)

    @cached_property
    def digest(self) -> str:
        """Of all that it says, in its order, wherever it was read from: 16 hexadecimal digits."""
        return hashlib.blake2b(self.model_dump_json().encode(), digest_size=8).hexdigest()

    def draw(self, rng_seed: int, panoramas: Sequence[str] = ()) -> Person:
        """Person number `rng_seed`, 0 to 2**64 - 1: a pure function of population, seed and the panoramas' names.

        Every noun has a stream of random numbers of its own: changing one distribution changes no other noun, but that
        hair, beard and brows follow the identity's age, sex and ethnicity, and the gaze the pose.
        """
        from datasets.faces.draw import draw

        return draw(self, rng_seed, tuple(panoramas))


def ready_populations() -> tuple[str, ...]:
    """Names of the populations that come with this package."""
    return LIBRARY.names


def load_population(name_or_path: str | Path) -> Population:
    """Reads a ready population by name, or any by path. Raises PopulationError with one line on whatever is wrong."""
    try:
        path = LIBRARY.find(name_or_path)
        return _validated(path, LIBRARY.read(path, _validated))
    except ValueError as error:
        raise PopulationError(str(error)) from None


def _validated(path: Path, raw: dict[str, Any]) -> Population:
    try:
        return Population.model_validate(raw)
    except ValidationError as error:
        explained = explain(error, Population, absent="; give it, or take the rest from `base: studio`")
        raise ValueError(f"{path}: {explained}") from None
