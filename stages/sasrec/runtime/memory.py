"""Refuses work that cannot fit into memory before it starts: the system would kill the process without a message.

An estimate is a lower bound: it counts tensors that exist at the same time, and no overhead of the libraries. So work
that fits is never refused.
"""

import os
from pathlib import Path

import torch

from sasrec.core.errors import UserError
from sasrec.runtime import control_groups

FLOAT_BYTES = 4


def require(what: str, needed: dict[str, int], device: torch.device) -> None:
    """Raise UserError if `what` needs more bytes, summed over the params in `needed`, than `device` has."""
    total, found = sum(needed.values()), _num_bytes(device)
    if total > found:
        key = max(needed, key=lambda key: needed[key])
        where = "this GPU" if device.type == "cuda" else "this machine"
        raise UserError(
            f"params.yaml: {what} takes at least {total / 1e9:.1f} GB of memory, and {where} has {found / 1e9:.1f} GB; "
            f"lower {key}"
        )


def _num_bytes(device: torch.device) -> int:
    """Return the memory of the GPU, else the most that this process may use, swap included, in bytes."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits()]) + _swap()


def _limits() -> list[int]:
    """Return the memory limits of this process's control groups, in bytes."""
    names = "memory.max", "memory.limit_in_bytes"  # v2, v1
    found = [limit for name in names for (limit,) in control_groups.limits("memory", name)]
    return [int(limit) for limit in found if limit != "max"]


def _swap() -> int:
    """Return the size of the swap space in bytes, 0 if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("SwapTotal"))
