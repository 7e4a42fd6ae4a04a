"""Chooses where tensors are computed."""

import ctypes
import os
import platform
from importlib.metadata import version

import torch

from sasrec import reproducibility
from sasrec.errors import UserError
from sasrec.processes import ALONE, Share

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MOST = 2**31 - 1  # that mallopt takes


def use(name: str, num_threads: int, share: Share = ALONE) -> torch.device:
    """Return the device called `name`, with all that shapes the bits of a result fixed.

    That is the number of CPU threads, deterministic algorithms, and float32 products in full precision (no TF32).
    Several processes divide the threads, and each takes a GPU of its own.

    `auto` is cuda where there is one, else mps, else cpu.

    Raises:
        UserError: this machine, or this build of PyTorch, has no such device, or none for so many processes.

    """
    _keep_freed_memory()
    torch.set_num_threads(max(1, num_threads // share.count))
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import the compiler, a second
    # We read nothing that we did not write. (A property of the module, which mypy does not see.)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("highest")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_available in available.items() if is_available)
    if not available[name]:
        raise UserError(f"params.yaml: train.device is {name}, which PyTorch does not find here; choose auto or cpu")
    if share.count == 1 or name == "cpu":
        return torch.device(name)
    if name == "mps":
        raise UserError("params.yaml: train.processes is above 1, which mps cannot take; set train.device to cpu")
    needed, found = int(os.environ.get("LOCAL_WORLD_SIZE", share.count)), torch.cuda.device_count()
    if needed > found:
        raise UserError(
            f"params.yaml: train.processes is {needed}, but PyTorch finds {found} GPUs, and each needs one; lower it"
        )
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _keep_freed_memory() -> None:
    """Let the next operator have what one has freed, where glibc would give it back to the system and ask again.

    Every page then comes back by a fault, zeroed: that took half the time of a softmax step over the catalogue.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, MOST)
        library.mallopt(M_TRIM_THRESHOLD, MOST)


def environment(device: torch.device) -> dict[str, object]:
    """Return what this process computes with: versions, PyTorch's build, processor, device and threads."""
    libraries = ("torch", "numpy", "safetensors", "pyarrow", "duckdb", "ibis-framework", "dvc")
    return {
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
        "torch_build": torch.__config__.show(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "variables": {name: os.environ.get(name) for name in reproducibility.PORTABLE},
    }
