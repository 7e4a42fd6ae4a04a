"""Chooses where tensors are computed."""

import torch

from sasrec.errors import UserError


def use(name: str, num_threads: int) -> torch.device:
    """Return the device called `name`, and fix the number of CPU threads, which shapes the bits of a sum.

    `auto` is cuda where there is one, else mps, else cpu.

    Raises:
        UserError: this machine, or this build of PyTorch, has no such device.

    """
    torch.set_num_threads(num_threads)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_available in available.items() if is_available)
    if not available[name]:
        raise UserError(f"params.yaml: train.device is {name}, which PyTorch does not find here; choose auto or cpu")
    return torch.device(name)
