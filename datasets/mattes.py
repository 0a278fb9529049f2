"""Mattes that people cut: made finer, and with the colours of what they cut out.

Data with an image and an alpha alone cannot be put before other backgrounds: where hair is half clear its pixels hold
the old background's colour, and a rough matte has lost the hair itself. Both are estimated here once, before training,
with the package pymatting, which a training node does not need.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import cv2
import numpy as np

INNER = 0.015  # of the longer side: how far within its edge a rough matte may be wrong (12 of 800 pixels)
OUTER = 0.025  # how far outside of it: hair is what people cut off (20 of 800 pixels)
SIDE = 512  # pixels of the longer side at which alpha is solved for: its cost grows faster than the pixels
OPAQUE, CLEAR = 242, 13  # alpha from which a rough matte is taken to say foreground, or up to which background
INSTALL = "pip install -c constraints.txt pymatting threadpoolctl"


def estimate_foreground(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours of what alpha cuts out, not premultiplied: uint8 [H, W, 3] for image uint8 [H, W, 3] sRGB and alpha
    uint8 [H, W].

    Multi-level foreground estimation (Germer et al. 2020). Where alpha is 255 it is the image itself; where alpha is 0
    it goes on smoothly; and where alpha is 0 throughout, so that no colour counts, it is the image. Raises ValueError
    for other arrays, and where pymatting is not installed.
    """
    _check(image, alpha)
    if not alpha.any():
        return image.copy()
    pymatting = require_pymatting()
    with _one_thread():
        estimate = pymatting.estimate_foreground_ml(image / 255.0, alpha / 255.0)
    rounded = np.rint(255 * np.clip(estimate, 0, 1)).astype(np.uint8)
    return np.where(alpha[..., None] == 255, image, rounded)


def trimap(alpha: np.ndarray, inner: float = INNER, outer: float = OUTER) -> np.ndarray:
    """Where a rough matte uint8 [H, W] is to be believed: uint8 [H, W], 255 foreground, 0 background, 128 unknown.

    What is at least OPAQUE, eroded by a disc of radius `inner`, and at most CLEAR, eroded by one of radius `outer`,
    both as shares of the longer side and at least one pixel. The image's own edge erodes nothing. Raises ValueError
    for other widths.
    """
    check_options(inner, outer)
    sure = _eroded(alpha >= OPAQUE, inner)
    away = _eroded(alpha <= CLEAR, outer)
    return np.where(sure, 255, np.where(away, 0, 128)).astype(np.uint8)


def refine_alpha(
    image: np.ndarray, alpha: np.ndarray, *, inner: float = INNER, outer: float = OUTER, side: int = SIDE
) -> np.ndarray:
    """A finer matte of image uint8 [H, W, 3] for a rough one uint8 [H, W]: uint8 [H, W].

    Closed-form matting (Levin et al. 2008) of the `trimap`'s unknown pixels, with image and matte reduced so that the
    longer side has at most `side` pixels, and enlarged again bilinearly; what the trimap of the whole matte is sure of
    is exactly 0 or 255. A matte without unknown pixels is returned as that. The bits are the same for any number of
    threads. Raises ValueError for other arrays, for a matte that has no sure foreground or no sure background to go by,
    for one that the solver does not solve, and where pymatting is not installed.
    """
    _check(image, alpha)
    check_options(inner, outer, side)
    whole = trimap(alpha, inner, outer)
    if not (whole == 128).any():
        return whole
    height, width = alpha.shape
    scale = min(1.0, side / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    known = trimap(cv2.resize(alpha, small, interpolation=cv2.INTER_AREA), inner, outer)
    if not (known == 255).any() or not (known == 0).any():
        absent = "opaque" if not (known == 255).any() else "clear"
        raise ValueError(f"a matte must be {absent} further from its edge than {inner} or {outer} of its longer side")
    reduced = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    solved = _solve(reduced, known)
    enlarged = cv2.resize(solved.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    refined = np.rint(255 * np.clip(enlarged, 0, 1)).astype(np.uint8)
    return np.where(whole == 128, refined, whole)


def _eroded(mask: np.ndarray, share: float) -> np.ndarray:
    radius = max(1, round(share * max(mask.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.erode(mask.astype(np.uint8), disc) > 0


def _solve(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Closed-form alpha float64 [h, w] of image uint8 [h, w, 3] and trimap uint8 [h, w]."""
    pymatting = require_pymatting()
    try:
        with _one_thread():
            solved = pymatting.estimate_alpha_cf(image / 255.0, known / 255.0)
    except ValueError as error:  # of the preconditioner, or of the solver after all its steps
        reason = " ".join(str(error).split())
        raise ValueError(f"the matte cannot be solved for ({reason}); leave it out or change inner and outer") from None
    if not np.isfinite(solved).all():
        raise ValueError("the matte cannot be solved for (not a number); leave it out or change inner and outer")
    return solved


@contextmanager
def _one_thread() -> Iterator[None]:
    """BLAS and numba without threads of their own: the refined packs are spread over processes.

    BLAS sums a long vector in another order for another number of threads; and two threads of numba took 150 to 240 ms
    for a foreground of 256 pixels that takes one 9 ms, since it is made of many small loops.
    """
    numba: Any = import_module("numba")  # pymatting's own
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with import_module("threadpoolctl").threadpool_limits(1, user_api="blas"):
            yield
    finally:
        numba.set_num_threads(threads)


def check_options(inner: float, outer: float, side: int = SIDE) -> None:
    """Raises ValueError for widths and sizes that `trimap` and `refine_alpha` cannot have."""
    if not (0 < inner < 0.5 and 0 < outer < 0.5):
        raise ValueError(f"`0 < inner, outer < 0.5` must hold, but got (inner={inner}, outer={outer})")
    if side < 16:
        raise ValueError(f"`side >= 16` must hold, but got {side}")


def _check(image: np.ndarray, alpha: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 [H, W, 3], but is {image.dtype} {list(image.shape)}")
    if alpha.dtype != np.uint8 or alpha.shape != image.shape[:2]:
        wanted = list(image.shape[:2])
        raise ValueError(f"alpha must be uint8 {wanted} as its image, but is {alpha.dtype} {list(alpha.shape)}")


def require_pymatting() -> Any:
    """The package pymatting. Raises ValueError, one line that says how to install it, where it is absent."""
    try:
        import_module("threadpoolctl")
        return import_module("pymatting")
    except ModuleNotFoundError as error:
        raise ValueError(f"mattes are refined with {error.name}, which is not installed: {INSTALL}") from None
