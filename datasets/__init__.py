"""What is sample i of this mix? Packs of samples, deterministic mixes of them, and batches of tensors.

Importing this needs numpy and pyarrow alone: what makes batches brings torch on first use, so that the search's driver
and trials never load it.
"""

import os
from typing import TYPE_CHECKING, Any

from datasets.manifest import Column, Manifest, PackError
from datasets.mix import Blocks, Domain, DomainRows, Draws, Mix, Source, nested_rows, subset_count
from datasets.pack import Pack
from datasets.writer import write_pack

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise its import asks a server for the newest version

if TYPE_CHECKING:
    from datasets.loader import Loader, eval_batches
    from datasets.loader_processes import LoaderProcesses

__all__ = [
    "Blocks",
    "Column",
    "Domain",
    "DomainRows",
    "Draws",
    "Loader",
    "LoaderProcesses",
    "Manifest",
    "Mix",
    "Pack",
    "PackError",
    "Source",
    "eval_batches",
    "nested_rows",
    "subset_count",
    "write_pack",
]


def __getattr__(name: str) -> Any:
    if name in ("Loader", "eval_batches"):
        from datasets import loader

        return getattr(loader, name)
    if name == "LoaderProcesses":
        from datasets.loader_processes import LoaderProcesses

        return LoaderProcesses
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
