import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

FAULTS = """
import resource, torch
from sasrec.runtime import device
device.use("cpu", 1)
def take_and_free() -> None:
    for _ in range(20):
        torch.ones(16_000_000)
take_and_free()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
take_and_free()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 16_000_000 * 4 // os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, which alone is told so")
def test_freed_memory_is_there_for_the_next_operator() -> None:
    command = [sys.executable, "-c", FAULTS]
    run = subprocess.run(command, cwd=ROOT / "stages", capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20 * PAGES / 2  # where it is given back, every page comes back at every turn
