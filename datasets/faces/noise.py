"""Tileable noise that textures are cut from; made once per process, the same everywhere."""

from functools import lru_cache

import cv2
import numpy as np

_SIZE = 256


def _blurred(white: np.ndarray, sigma_x: float, sigma_y: float) -> np.ndarray:
    """Gaussian blur with wrapped borders, scaled to zero mean and unit deviation."""
    pad = _SIZE // 2
    wide = np.pad(white, pad, mode="wrap")
    wide = cv2.GaussianBlur(wide, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y, borderType=cv2.BORDER_REFLECT)
    out = wide[pad:-pad, pad:-pad]
    return ((out - out.mean()) / out.std()).astype(np.float32)


@lru_cache(maxsize=1)
def tiles() -> dict[str, np.ndarray]:
    """float32 [256, 256] each, zero mean, unit deviation: "grain", "spots", "clouds", and "strands" (long in y)."""
    rng = np.random.Generator(np.random.Philox(20210))
    white = rng.standard_normal((4, _SIZE, _SIZE)).astype(np.float32)
    strands = _blurred(white[3], 0.6, 24.0) + 0.6 * _blurred(white[2], 2.0, 32.0)
    return {
        "grain": _blurred(white[0], 0.8, 0.8),
        "spots": _blurred(white[1], 3.0, 3.0),
        "clouds": _blurred(white[2], 14.0, 14.0) + 0.4 * _blurred(white[0], 5.0, 5.0),
        "strands": (strands / strands.std()).astype(np.float32),
    }


def lookup(table: np.ndarray, column: np.ndarray, row: np.ndarray, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """Bilinear `table` [H, W] or [H, W, C] float32 at flat positions [n]; [n] or [n, C].

    OpenCV wants an image of positions with sides below 2**15, so they are folded into rows.
    """
    n, width = column.shape[0], 1024
    rows = max(1, -(-n // width))  # OpenCV refuses an empty image, and a body may be hidden wholly
    place = np.zeros((2, rows * width), np.float32)
    place[0, :n], place[1, :n] = column, row
    out = cv2.remap(
        table, place[0].reshape(rows, width), place[1].reshape(rows, width), cv2.INTER_LINEAR, borderMode=border
    )
    return out.reshape(rows * width, *table.shape[2:])[:n]


def sample(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The tile at float32 positions [n] in tile units (1.0 is one period), bilinear and periodic; [n]."""
    scale = np.float32(_SIZE)
    return lookup(tiles()[name], (x - np.floor(x)) * scale, (y - np.floor(y)) * scale, cv2.BORDER_WRAP)
