"""The processor cores that this process may use, and how many of them a stage takes."""

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sasrec.core import params
from sasrec.runtime import control_groups

MOST_THREADS = 1024


class MachineParams(msgspec.Struct, frozen=True):
    """Section `machine` of params.yaml: what suits this machine and changes no result.

    It is a section of its own because DVC trains again where a value of the section `train` has changed.
    """

    num_threads: Annotated[
        Literal["auto"] | Annotated[int, msgspec.Meta(ge=1, le=MOST_THREADS)],
        params.about(
            "CPU threads of all processes together; `auto`: one for each core that the stage may use "
            "([more](reproducibility.md))"
        ),
        msgspec.Meta(extra={"allowed": f"choose one of auto, a whole number from 1 to {MOST_THREADS:,}"}),
    ]


def num_threads(params_file: Path) -> int:
    """Return `machine.num_threads` of the params file, or for `auto` the number of cores."""
    number = params.load(params_file, "machine", MachineParams).num_threads
    return available() if number == "auto" else number


def available() -> int:
    """Return the number of cores that this process may use, by its affinity and by its control groups' time."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [
        *control_groups.limits("cpu", "cpu.max"),
        *control_groups.limits("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    ]
    whole = [int(quota) // int(period) for quota, period in quotas if quota not in ("max", "-1")]
    return max(1, min([found, MOST_THREADS, *whole]))
