"""The cores that a process may use: by its affinity and by the time of its control groups."""

import os
from pathlib import Path

import pytest

from sasrec.runtime import control_groups, cores, reproducibility


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the kernel's, for a process in the group a/b of both versions, on a machine of 16 cores."""
    (tmp_path / "self").write_text("4:cpu,cpuacct:/a/b\n0::/a/b\n")
    monkeypatch.setattr(control_groups, "OF_THIS_PROCESS", tmp_path / "self")
    monkeypatch.setattr(control_groups, "ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


def limit(group: Path, **files: str) -> None:
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits_every_core_of_the_affinity_counts(groups: Path) -> None:
    limit(groups / "a", cpu__max="max 100000")
    limit(groups / "cpu/a", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cores.available() == 16


@pytest.mark.parametrize(("quota", "expected"), [("400000", 4), ("250000", 2), ("50000", 1)])
def test_a_quota_of_time_counts_as_whole_cores_and_at_least_one(groups: Path, quota: str, expected: int) -> None:
    limit(groups / "a", cpu__max=f"{quota} 100000")
    assert cores.available() == expected


def test_a_quota_of_the_first_version_counts(groups: Path) -> None:
    limit(groups / "cpu/a/b", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert cores.available() == 3


@pytest.fixture
def running(groups: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's statistics of a machine of 32 cores."""
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(cores, "STATISTICS", groups / "stat")
    return groups / "stat"


@pytest.mark.parametrize(("number", "expected"), [(1, 16), (17, 16), (18, 15), (31, 2), (99, 1)])
def test_cores_that_others_use_do_not_count_and_one_is_left(running: Path, number: int, expected: int) -> None:
    running.write_text(f"cpu  1 2 3\nprocs_running {number}\nprocs_blocked 0\n")
    assert cores.idle() == expected


def test_where_the_kernel_does_not_tell_nothing_else_runs(running: Path) -> None:
    assert not running.exists()
    assert cores.others_running() == 0


@pytest.mark.parametrize(
    ("value", "is_portable", "expected"), [("auto", True, 15), ("auto", False, 16), ("3", True, 3), ("3", False, 3)]
)
def test_the_params_choose_a_number_or_in_portable_mode_the_cores_that_are_idle(
    running: Path, monkeypatch: pytest.MonkeyPatch, value: str, is_portable: bool, expected: int
) -> None:
    running.write_text("procs_running 18\n")
    monkeypatch.setattr(reproducibility, "is_portable", lambda: is_portable)
    params = running.with_name("params.yaml")
    params.write_text(f"machine:\n  num_threads: {value}\n")
    assert cores.num_threads(params) == expected
