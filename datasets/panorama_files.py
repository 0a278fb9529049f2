"""Files of panoramas: which of a folder are some, and the light that one holds, or the reason why it can hold none.

Radiance's .hdr, OpenEXR's .exr with the package of that name, and pictures, which are taken as sRGB. All that can be
told from a header is told before anything is decoded, and nothing wrong is mended in silence.
"""

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasets.ordinary import ordinary
from datasets.srgb import linear_from_srgb

SUFFIXES = (".exr", ".hdr", ".jpeg", ".jpg", ".png")
PICTURES = ("JPEG", "PNG")
WIDEST = 16384  # pixels: 1.6 GB of light
BRIGHTEST = np.float32(65504)  # that half precision holds: what an infinite value, as an .exr's sun may be, becomes
INSTALL = "pip install -c constraints.txt OpenEXR"
Floats = NDArray[np.float32]


def list_panoramas(folder: Path) -> list[Path]:
    """The files of a folder that have one of SUFFIXES, sorted. ValueError, one line, without the folder or any file."""
    if not folder.is_dir():
        raise ValueError(f"the folder of panoramas must exist, but {folder} is none: give another")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not files:
        raise ValueError(f"a folder of panoramas must hold {', '.join(SUFFIXES)} files, but {folder} has none")
    return files


def check_header(path: Path) -> None:
    """Raises ValueError, one line that names the file, where its first bytes show that it cannot be a panorama: not
    readable, not twice as wide as high, or wider than WIDEST."""
    reader = {".hdr": _radiance_header, ".exr": _exr_header}.get(path.suffix.lower(), _picture_header)
    try:
        wide, high = reader(ordinary(path))
    except (OSError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from None
    if wide > WIDEST:
        raise ValueError(f"a panorama must be at most {WIDEST} pixels wide, but {path} is {wide}x{high}: reduce it")
    _check_shape(path, wide, high)


def read_panorama(path: Path, width: int) -> Floats:
    """Linear RGB radiance float32 [H, 2H, 3], 0 and more, in the file's units, reduced to `width` if it is wider.

    Raises ValueError, one line that names the file, as `check_header` does, and where it breaks off, or where a value
    is negative or not a number.
    """
    check_header(path)
    try:
        pixels = _exr(path) if path.suffix.lower() == ".exr" else _picture(path)
    except (OSError, ValueError, RuntimeError, SyntaxError, cv2.error) as error:
        raise _unreadable(path, error) from None
    _check_shape(path, pixels.shape[1], pixels.shape[0])  # the header's may be before a turn by EXIF
    if pixels.dtype.kind == "u":
        levels = 256 if pixels.dtype == np.uint8 else 65536
        pixels = linear_from_srgb(np.arange(levels) / (levels - 1)).astype(np.float32)[pixels]
    low = float(pixels.min())
    if not low >= 0:
        what = f"negative ({low:g})" if low < 0 else "not a number"
        raise ValueError(f"a panorama must hold light, 0 and more, but a value of {path} is {what}: mend or remove it")
    pixels = np.minimum(pixels, BRIGHTEST, out=pixels, where=np.isinf(pixels))
    return reduce(pixels, width) if pixels.shape[1] > width else pixels


def reduce(pixels: Floats, width: int, height: int = 0) -> Floats:
    """Averaged over areas; twice as wide as high where no height is given."""
    return cv2.resize(pixels, (width, height or width // 2), interpolation=cv2.INTER_AREA).astype(np.float32)


def _check_shape(path: Path, wide: int, high: int) -> None:
    if wide != 2 * high or not high:
        raise ValueError(f"a panorama must be twice as wide as high, but {path} is {wide}x{high}: remove it")


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ValueError(f"a panorama must be readable, but {path} is not ({reason}): replace or remove it")


def _picture_header(path: Path) -> tuple[int, int]:
    with warnings.catch_warnings():  # of a size that WIDEST allows
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=PICTURES) as image:
            return image.size


def _radiance_header(path: Path) -> tuple[int, int]:
    """Of Radiance's picture format (Ward, `ray/doc/filefmts`): magic, variables, an empty line, the resolution."""
    with path.open("rb") as file:
        head = file.read(8192)
    text, empty, rest = head.partition(b"\n\n")
    words = rest.split(b"\n", 1)[0].split()
    if not text.startswith(b"#?") or not empty or len(words) != 4 or (words[0], words[2]) != (b"-Y", b"+X"):
        raise ValueError("its header is not that of a Radiance picture with its first row on top")
    return int(words[3]), int(words[1])


def _exr_header(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        if file.read(4) != b"\x76\x2f\x31\x01":
            raise ValueError("its header is not OpenEXR's")
    with _openexr().File(str(path), header_only=True) as file:
        (left, top), (right, bottom) = file.header()["dataWindow"]
    return int(right - left + 1), int(bottom - top + 1)


def _picture(path: Path) -> NDArray[Any]:
    """RGB [H, W, 3]: float32 of .hdr, else uint8 or, of a .png, uint16."""
    if path.suffix.lower() != ".hdr":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=PICTURES) as image:
                if image.format != "PNG":  # of which OpenCV knows 16 bits; of a JPEG that breaks off it makes up a part
                    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    stored = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if stored is None:
        raise ValueError("OpenCV cannot decode it")
    return np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB))


def _exr(path: Path) -> Floats:
    """RGB float32 [H, W, 3] of the channels R, G and B, or of Y alone."""
    with _openexr().File(str(path), separate_channels=True) as file:
        channels = file.channels()
        names = [name for name in ("R", "G", "B") if name in channels] or ["Y"]
        if not set(names) <= channels.keys() or len(names) == 2:
            raise ValueError(f"it must have the channels R, G and B, or Y, but has {', '.join(sorted(channels))}")
        planes = [np.asarray(channels[name].pixels, np.float32) for name in names]
    return np.ascontiguousarray(np.stack(planes if len(planes) == 3 else planes * 3, axis=2))


def _openexr() -> Any:
    try:
        return import_module("OpenEXR")
    except ModuleNotFoundError as error:
        raise ValueError(f"it needs {error.name}, which is not installed: {INSTALL}") from None
