"""Things that are worn: glasses, hats, masks, headphones and clothes, fitted to a person's own head and body.

`wear` gives the meshes. `cut` tells which points of hair and beard a hat or a mask hides or presses flat.
"""

import numpy as np

from datasets.faces.geometry import Mesh
from datasets.faces.head import Head
from datasets.faces.person import Person
from datasets.faces.worn.clothes import make_clothes
from datasets.faces.worn.glasses import make_glasses
from datasets.faces.worn.hats import fit_hat
from datasets.faces.worn.headphones import make_headphones
from datasets.faces.worn.headwear import make_hat
from datasets.faces.worn.mask import fit_mask, make_mask

__all__ = ["cut", "wear"]
UNDER_GLASSES = 0.0025  # metres of a mask between glasses and face


def wear(head: Head, neutral: np.ndarray, posed: np.ndarray, person: Person) -> list[Mesh]:
    """All that a person wears, in head space; [] never, since everybody is dressed.

    neutral, posed  float32 [V, 3] vertices of the head model without and with the expression

    A pure function of what it is given. Raises ValueError for something that is not known.
    """
    mask, hat = fit_mask(head, posed, person), fit_hat(head, neutral, person)
    out = make_clothes(head, posed, person)
    if mask is not None:
        out += make_mask(neutral, mask, person)
    out += make_glasses(head, neutral, posed, person, 0.0 if mask is None else UNDER_GLASSES)
    if hat is not None:
        out += make_hat(hat, person)
    return out + make_headphones(neutral, person, hat)


def cut(head: Head, neutral: np.ndarray, posed: np.ndarray, person: Person, points: np.ndarray) -> np.ndarray:
    """Which points of hair or beard [..., 3] in head space lie under the hat or behind the mask: bool [...].

    What lies there is not to be drawn: it is hidden, or would stick through the cloth.
    """
    flat = points.reshape(-1, 3)
    out = np.zeros(len(flat), bool)
    for fit in (fit_hat(head, neutral, person), fit_mask(head, posed, person)):
        if fit is not None:
            out |= fit.covers(flat)
    return out.reshape(points.shape[:-1])
