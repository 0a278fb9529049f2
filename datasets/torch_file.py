"""What torch.save wrote, read as data alone: tensors, numbers, texts and containers of them, and no code."""

import os
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np

from datasets.ordinary import ordinary
from datasets.settings import line


def load_torch(file: Path | IO[bytes], name: str) -> Any:
    """The value in a file, its tensors on the CPU. ValueError, one line that begins with `name`, for any other file."""
    import torch

    # Some published files hold a numpy number beside the parameters, under the name of old or new versions.
    scalar = np.float64(0).__reduce__()[0]
    numbers: list[Any] = [np.dtype, np.dtypes.Float64DType, scalar, (scalar, "numpy.core.multiarray.scalar")]
    try:
        _check_stored(ordinary(file) if isinstance(file, Path) else file)
        if not isinstance(file, Path):
            file.seek(0)
        with torch.serialization.safe_globals(numbers):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  (pickle, zip and torch raise many kinds)
        first = line(next(iter(str(error).splitlines()), ""), 200) or type(error).__name__
        if isinstance(error, UnpicklingError):  # torch's own words say how to run the code
            first = "it holds more than tensors, numbers and texts, or is damaged"
        raise ValueError(f"{name}: must be a file that torch.load reads, but: {first}") from None


def _check_stored(file: Path | IO[bytes]) -> None:
    """Raises ValueError for an archive that takes more memory than it has bytes: torch.save compresses nothing."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        needed = sum(info.file_size for info in archive.infolist())
    size = file.stat().st_size if isinstance(file, Path) else file.seek(0, os.SEEK_END)
    if needed > size:
        raise ValueError(f"its {size:,} bytes say that they are {needed:,}, and torch.save compresses nothing")
