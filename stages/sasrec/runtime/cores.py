"""The processor cores that this process may use, and how many of them a stage takes."""

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sasrec.core import params
from sasrec.runtime import control_groups, reproducibility

MOST_THREADS = 1024
STATISTICS = Path("/proc/stat")  # of Linux
LOOKS, SECONDS_BETWEEN_LOOKS = 5, 0.01


class MachineParams(msgspec.Struct, frozen=True):
    """Section `machine` of params.yaml: what suits this machine and changes no result.

    It is a section of its own because DVC trains again where a value of the section `train` has changed.
    """

    num_threads: Annotated[
        Literal["auto"] | Annotated[int, msgspec.Meta(ge=1, le=MOST_THREADS)],
        params.about(
            "CPU threads of all processes together; `auto`: one for each core that the stage may use and, in portable "
            "mode, that nothing else uses ([more](reproducibility.md#a-busy-machine))"
        ),
        msgspec.Meta(extra={"allowed": f"choose one of auto, a whole number from 1 to {MOST_THREADS:,}"}),
    ]


def num_threads(params_file: Path) -> int:
    """Return `machine.num_threads` of the params file, or for `auto` the number of cores.

    In fast mode the number of threads changes bits, so `auto` does not depend on the load.
    """
    number = params.load(params_file, "machine", MachineParams).num_threads
    if number != "auto":
        return number
    return idle() if reproducibility.is_portable() else available()


def idle() -> int:
    """Return how many of the available cores no other thread of the machine uses now, at least 1.

    Threads that share a core with others wait for each other, so that one alone is faster than two.
    """
    return max(1, min(available(), (os.cpu_count() or 1) - others_running()))


def others_running() -> int:
    """Return how many threads besides this one run or wait for a core, the fewest of some looks; 0 if nobody tells."""
    found = []
    for _ in range(LOOKS):
        time.sleep(SECONDS_BETWEEN_LOOKS)
        lines = STATISTICS.read_text().splitlines() if STATISTICS.is_file() else []
        found += [int(line.split()[1]) - 1 for line in lines if line.startswith("procs_running ")]
    return max(0, min(found, default=0))


def available() -> int:
    """Return the number of cores that this process may use, by its affinity and by its control groups' time."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [
        *control_groups.limits("cpu", "cpu.max"),
        *control_groups.limits("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    ]
    whole = [int(quota) // int(period) for quota, period in quotas if quota not in ("max", "-1")]
    return max(1, min([found, MOST_THREADS, *whole]))
