"""The smooth skull under a head's skin, as a radius in each direction: what hats and headbands are fitted to."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from datasets.faces.head import load_head

DEGREE = 4
STIFFNESS = 1e-3  # ridge, against the size of the polynomials themselves


@dataclass(frozen=True)
class Skull:
    """Radius as a polynomial of direction about a center float64 [3], fitted to the scalp and the forehead.

    Homogeneous polynomials of degree 4 and 3 on the unit sphere, which are all spherical harmonics up to degree 4.
    """

    center: np.ndarray
    weights: np.ndarray

    def radius(self, directions: np.ndarray) -> np.ndarray:
        """Metres [...] for unit directions [..., 3]."""
        flat = directions.reshape(-1, 3)
        return (_terms(flat) @ self.weights).reshape(directions.shape[:-1])


@dataclass(frozen=True)
class Places:
    """Vertices, found once on the neutral base mesh: of the scalp that a skull is fitted to, of a ring around its
    middle, of all the skin that a hat may cover, and of both ears (the subject's right one first)."""

    scalp: np.ndarray
    ring: np.ndarray
    coverable: np.ndarray
    ears: tuple[np.ndarray, np.ndarray]


@cache
def places() -> Places:
    """Where things are worn."""
    head = load_head()
    x, y, z = head.canonical.T
    ear = head.masks["ears"] > 0.3
    skin = np.zeros(len(y), bool)
    skin[head.triangles[head.part == 0]] = True
    skin &= x**2 + (y - 0.755) ** 2 + (z - 0.055) ** 2 > 0.070**2  # not the inside of the mouth
    scalp = skin & ~ear & ((y > 0.757) | ((y > 0.69) & (z < 0.085) & (y > 0.69 + 0.4 * (z - 0.02))))
    ring = scalp & (np.abs(y - 0.768) < 0.012)
    coverable = skin & ~ear & ((y > 0.75) | ((y > 0.69) & (z < 0.09)))
    ears = (np.flatnonzero(skin & ear & (x < 0)), np.flatnonzero(skin & ear & (x > 0)))
    return Places(np.flatnonzero(scalp), np.flatnonzero(ring), np.flatnonzero(coverable), ears)


def fit_skull(neutral: np.ndarray) -> Skull:
    """Least squares over the scalp's vertices of a person's mesh float32 [V, 3]."""
    where = places()
    ring = neutral[where.ring].astype(np.float64)
    center = (ring.min(0) + ring.max(0)) / 2
    offset = neutral[where.scalp] - center
    radius = np.sqrt((offset * offset).sum(1))
    terms = _terms(offset / radius[:, None])
    system = terms.T @ terms
    ridge = STIFFNESS * len(offset) * np.eye(len(system)) / len(system)
    mean = radius.mean()
    # Towards a sphere rather than towards nothing: 1 is a polynomial of degree 4 on the sphere, (x^2 + y^2 + z^2)^2.
    sphere = _sphere() * mean
    weights = sphere + np.linalg.solve(system + ridge, terms.T @ (radius - terms @ sphere))
    return Skull(center, weights)


@cache
def _exponents() -> np.ndarray:
    return np.array([(i, j, d - i - j) for d in (DEGREE, DEGREE - 1) for i in range(d + 1) for j in range(d + 1 - i)])


@cache
def _sphere() -> np.ndarray:
    multinomial = {(4, 0, 0): 1, (2, 2, 0): 2}
    return np.array([float(multinomial.get(tuple(sorted(e, reverse=True)), 0)) for e in _exponents().tolist()])


def _terms(directions: np.ndarray) -> np.ndarray:
    """Polynomials [n, 25] of unit directions [n, 3]."""
    directions = np.asarray(directions, np.float64)
    powers = np.ones((DEGREE + 1, *directions.shape))
    for k in range(1, DEGREE + 1):
        powers[k] = powers[k - 1] * directions
    e = _exponents()
    return (powers[e[:, 0], :, 0] * powers[e[:, 1], :, 1] * powers[e[:, 2], :, 2]).T
