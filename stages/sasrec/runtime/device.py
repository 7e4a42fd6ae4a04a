"""Chooses the device that computes, and describes the environment."""

import ctypes
import os

import torch

from sasrec.core.errors import UserError
from sasrec.runtime import reproducibility
from sasrec.runtime.world import ALONE, World

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
MALLOPT_MAX = 2**31 - 1  # the largest value that mallopt accepts


def use(name: str, num_threads: int, world: World = ALONE) -> torch.device:
    """Return the device called `name`, and fix the settings that change a result's bits.

    These are deterministic algorithms, float32 products in full precision (no TF32) and, in fast mode, the number of
    CPU threads. Several processes divide the threads, and each uses a GPU of its own. `auto` is cuda if available, else
    mps, else cpu.

    Raises:
        UserError: PyTorch finds no such device here, or too few of them for the processes.

    """
    _keep_freed_memory()
    torch.set_num_threads(max(1, num_threads // world.size))
    torch.set_deterministic_debug_mode("error")  # use_deterministic_algorithms would import the compiler: 1 s
    # No code here reads uninitialised memory. mypy does not see that this is a property of the module.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("highest")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_available in available.items() if is_available)
    if not available[name]:
        raise UserError(f"params.yaml: train.device is {name}, which PyTorch does not find here; choose auto or cpu")
    if world.size == 1 or name == "cpu":
        return torch.device(name)
    if name == "mps":
        raise UserError("params.yaml: train.processes is above 1, which mps cannot take; set train.device to cpu")
    needed, found = int(os.environ.get("LOCAL_WORLD_SIZE", world.size)), torch.cuda.device_count()
    if needed > found:
        raise UserError(
            f"params.yaml: train.processes is {needed}, but PyTorch finds {found} GPUs, and each needs one; lower it"
        )
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next operator.

    Otherwise glibc returns it to the system, and every page comes back zeroed, by a page fault: that took half the time
    of a softmax step over the catalogue.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, MALLOPT_MAX)
        library.mallopt(M_TRIM_THRESHOLD, MALLOPT_MAX)


def describe(device: torch.device) -> dict[str, object]:
    """Return the device, PyTorch's build, threads and variables of this process, as JSON values."""
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "device_peak_bytes": torch.cuda.max_memory_allocated(device) if is_cuda else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch_build": torch.__config__.show(),
        "variables": {name: os.environ.get(name) for name in reproducibility.PORTABLE},
    }
