"""The number of threads changes no bit of a training in portable mode."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from curves import OBJECTIVES

from sasrec.runtime import reproducibility

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def digests() -> dict[str, list[str]]:
    """Those of each training with 1, 2 and 3 threads."""
    paths = os.pathsep.join([str(ROOT / "stages"), str(ROOT / "tests")])
    environment = os.environ | reproducibility.PORTABLE | {"PYTHONPATH": paths}
    command = [sys.executable, str(ROOT / "tests/training/threads.py")]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)


@pytest.mark.parametrize("name", [*OBJECTIVES, "wide", "counted"])
def test_any_number_of_threads_gives_the_same_weights_and_features(digests: dict[str, list[str]], name: str) -> None:
    assert len(digests[name]) == 3
    assert len(set(digests[name])) == 1
