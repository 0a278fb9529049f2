"""What makes two processes compute the same bits: the flags that are set, and the digest that divides the store.

Inside one division a shared run and an unshared one give identical bits. Between divisions (another torch, another
device model, another number of threads) nothing is promised, so nothing is shared.
"""

import os
import platform
from typing import Any

import torch

from trainables.recipe import digest
from trainables.stage import TRAINING_VERSION


def set_deterministic(threads: int) -> None:
    """Sets the process's numeric switches: threads, no autotuning, deterministic kernels (a warning where none is)."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # 8% of a small step


def numerics(device: torch.device, *, world_size: int) -> dict[str, Any]:
    """Everything outside a stage's key that changes its bits, by name."""
    import albumentations
    import cv2
    import numpy

    return {
        "training_version": TRAINING_VERSION,
        "torch": torch.__version__,
        "albumentations": albumentations.__version__,
        "opencv": cv2.__version__,
        "numpy": numpy.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_model(),
        "world_size": world_size,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def division(device: torch.device, *, world_size: int) -> str:
    """The store's division for this process: 16 hex digits of the digest of `numerics`."""
    return digest(numerics(device, world_size=world_size))[:16]


def _cpu_model() -> str:
    """The processor's name and the vector instructions in use: both decide which kernels run."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (FileNotFoundError, StopIteration):
        pass  # not Linux, or an architecture that does not name its model: the platform's word stands
    return f"{name} {torch.backends.cpu.get_cpu_capability()}"
