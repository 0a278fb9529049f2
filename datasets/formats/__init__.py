"""Adapters from a dataset's own layout on disk to samples of a pack: one file a format.

A format is a module with `read(source, *, size, split, rows, shuffle_seed, glasses) -> Reading`. To add one, write
the file and name it here.
"""

from collections.abc import Callable

from datasets.formats import celebamask_hq, face_api
from datasets.formats.reading import Reading

FORMATS: dict[str, Callable[..., Reading]] = {"celebamask_hq": celebamask_hq.read, "face_api": face_api.read}

__all__ = ["FORMATS", "Reading"]
