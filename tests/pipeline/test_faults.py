"""Stages are killed at random moments, disks fill up and two runs meet: no output is damaged, and `dvc repro` goes on.

FAULTS is the number of moments for each stage and signal: `make faults` takes many, and the tests one or two a stage.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import stopping
from conftest import ROOT, runner
from ruamel.yaml import YAML

from sasrec.serving import model_folder

FAULTS = int(os.environ.get("FAULTS", "1"))
QUICK = ["parse_gzip", "filter_reindex", "split"]  # which the tests kill, and end by SIGTERM; they only kill the others
STAGE_SECONDS = 2.5  # about what the longest one takes
REPRO_SECONDS = 12
EARLIER = b"what an earlier run wrote"
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
FOLDERS = {
    "models/sasrec": [
        *(model_folder.WEIGHTS, model_folder.BOOKS, model_folder.TRANSITIONS, model_folder.CARD),
        model_folder.DESCRIPTION,
    ]
}
PYTHON = Path(sys.executable)


def outputs_of(*stages: str) -> list[str]:
    """The declared outputs, but for what grows while it is watched; one with options is a mapping from its path."""
    declared = [output for stage in stages for output in STAGES[stage]["outs"] + STAGES[stage].get("metrics", [])]
    paths = [path for output in declared for path in ([output] if isinstance(output, str) else output)]
    files = [f"{path}/{name}" if name else path for path in paths for name in FOLDERS.get(path, [""])]
    return [path for path in files if not path.startswith("dvclive/")]


@dataclass
class Tally:
    """What the tests of this file did, for the last line of `make faults`."""

    injected: int = 0
    damaged: list[str] = field(default_factory=list)

    def examine(self, project: Path, undisturbed: Path, stages: list[str], allowed: bytes | None) -> None:
        """Count a fault; note each output of the stages that is there, but neither whole nor the earlier one."""
        self.injected += 1
        for name in outputs_of(*stages):
            content = (project / name).read_bytes() if (project / name).exists() else allowed
            if content not in (allowed, (undisturbed / name).read_bytes()):
                self.damaged.append(name)


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    counted = Tally()
    yield counted
    print(f"\n{counted.injected} faults injected, {len(counted.damaged)} outputs found damaged")


def put_earlier(project: Path, stage: str, content: bytes | None) -> None:
    """Give each output of the stage this content; None: remove it."""
    for name in outputs_of(stage):
        (project / name).unlink(missing_ok=True)
        if content is not None:
            (project / name).write_bytes(content)


def start(project: Path, stage: str) -> subprocess.Popen[str]:
    command = [sys.executable, f"stages/{stage}.py"]
    return subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def half_written(project: Path) -> list[str]:
    """The names of partial files and folders."""
    walks = [os.walk(folder) for folder in project.glob("[dmpc]*")]
    names = [name for walk in walks for _, folders, files in walk for name in folders + files]
    return [name for name in names if name.endswith(".partial")]


def writes(project: Path, process: subprocess.Popen[str]) -> bool:
    """Whether the process has opened a file of the project that has no name yet: Linux calls it deleted."""
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            target = str(link.readlink())
            if target.startswith(f"{project}/") and target.endswith(" (deleted)"):
                return True
    return False


def wait_until_it_writes(project: Path, process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(OSError):  # the process has ended
        while process.poll() is None and not writes(project, process):
            time.sleep(0.001)


def assert_tidy(project: Path, process: subprocess.Popen[str], message: str) -> None:
    """SIGTERM ends a stage silently before its first statement; then, until it ends, with one line and no partial file."""
    assert "Traceback" not in message, message
    assert process.returncode in (0, 1, -signal.SIGTERM)
    if process.returncode == 1:
        assert message.splitlines()[-1].startswith("error: interrupted; `dvc repro` starts this stage again")
        assert not half_written(project)


@pytest.mark.long
def test_a_killed_stage_leaves_each_output_whole_or_as_it_was(project: Path, finished: Path, tally: Tally) -> None:
    rng = random.Random(0)
    for stage in reversed(STAGES):  # a stage needs what the ones before it wrote
        for number in range(2 * FAULTS if FAULTS > 1 or stage in QUICK else 1):
            earlier = rng.choice([None, EARLIER])
            put_earlier(project, stage, earlier)
            with start(project, stage) as process:
                if number % 4 < 2:
                    wait_until_it_writes(project, process)
                    time.sleep(rng.uniform(0, 0.02))
                else:
                    time.sleep(rng.uniform(0, STAGE_SECONDS))
                process.send_signal([signal.SIGKILL, signal.SIGTERM][number % 2])
                message = process.communicate()[1]
            if number % 2:
                assert_tidy(project, process, message)
            elif earlier is None and stage != "fetch":  # else what is whole has another name for an instant
                assert not half_written(project)
            tally.examine(project, finished, [stage], earlier)
    assert tally.damaged == []
    if FAULTS > 1:  # else the killed `dvc repro` below shows it
        runner(project)("dvc", "repro", "--no-run-cache")
        assert (project / "dvc.lock").read_text() == (finished / "dvc.lock").read_text()


def start_repro(project: Path) -> subprocess.Popen[bytes]:
    """Start `dvc repro --force` in a process group of its own."""
    path = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [PYTHON.parent / "dvc", "repro", "--force", "--no-run-cache"],
        cwd=project,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def assert_as_undisturbed(project: Path, undisturbed: Path) -> None:
    run = runner(project)
    assert run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in run("dvc", "status").stdout
    for name in outputs_of(*STAGES):
        assert (project / name).read_bytes() == (undisturbed / name).read_bytes()


MENDS = {  # by what DVC says of a file of its own that it was killed in: it writes them in place
    "Unable to read RWLock-file": "rm .dvc/tmp/rwlock",
    "dvc.lock": "git restore dvc.lock",
    "unexpected error": "git restore dvc.lock",  # where `hash: md5` is cut, or what is left of a digest is a number
}


def mend_torn_files(project: Path) -> list[str]:
    """Run what the documentation advises for what DVC says, and return it.

    A lock that ends between two entries is read, and `dvc repro` completes it; any other is refused.
    """
    run: list[str] = []
    command = [PYTHON.parent / "dvc", "status"]
    while (status := subprocess.run(command, cwd=project, capture_output=True, text=True)).returncode:
        (advised, *_) = [mend for said, mend in MENDS.items() if said in status.stderr and mend not in run]
        assert f"`{advised}`" in (ROOT / "docs/reliability.md").read_text()
        runner(project)(*advised.split())
        run.append(advised)
    return run


@pytest.mark.long
def test_a_lock_cut_off_anywhere_is_named_and_put_right_from_git(project: Path, finished: Path) -> None:
    lock = (project / "dvc.lock").read_bytes()
    in_a_path = lock.rindex(b"path: ") + len(b"path: ")
    between_entries = lock.rindex(b"- path: ", 0, in_a_path - len(b"- path: "))
    expected = {in_a_path: ["git restore dvc.lock"], between_entries: []}
    rng = random.Random(2)
    for length in [*expected, *(rng.randrange(len(lock)) for _ in range(FAULTS // 2))]:
        (project / "dvc.lock").write_bytes(lock[:length])
        mended = mend_torn_files(project)
        assert mended == expected.get(length, mended)
        runner(project)("dvc", "repro")
        assert_as_undisturbed(project, finished)


def test_an_empty_list_of_locks_is_named_and_goes_by_the_documented_command(project: Path) -> None:
    (project / ".dvc/tmp/rwlock").write_bytes(b"")  # what a full disk leaves, or a kill
    assert mend_torn_files(project) == ["rm .dvc/tmp/rwlock"]
    runner(project)("dvc", "repro")
    assert runner(project)("git", "status", "--porcelain").stdout == ""


def test_a_killed_repro_is_put_right_by_the_next(project: Path, finished: Path, tally: Tally) -> None:
    rng = random.Random(1)
    for _ in range(max(1, FAULTS // 2)):
        process = start_repro(project)
        time.sleep(rng.uniform(1, REPRO_SECONDS))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        tally.examine(project, finished, list(STAGES), None)
        mend_torn_files(project)
    assert tally.damaged == []
    runner(project)("dvc", "repro")
    assert_as_undisturbed(project, finished)


def test_a_second_repro_is_refused_while_one_runs(project: Path, finished: Path, tmp_path: Path) -> None:
    command = ["dvc", "repro", "--force", "--no-run-cache", "--single-item", "split"]
    place = "metrics/data.json"  # kept in git: to an output of its cache DVC itself gives the name a second time
    first = stopping.start(project, tmp_path / "hook", *command, ends_at=place, with_signal=signal.SIGSTOP)
    until = os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert until.si_code == os.CLD_STOPPED  # in the middle of the stage, for as long as the second one takes
    refused = runner(project)("dvc", "repro", fails=True).stderr
    os.killpg(first.pid, signal.SIGCONT)
    assert first.wait() == 0
    assert re.search("is busy, it is being blocked by|Unable to acquire lock", refused)
    assert_as_undisturbed(project, finished)


@pytest.fixture(scope="module")
def in_namespace(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What comes before a command that mounts disks of its own."""
    command = ["unshare", "--map-root-user", "--mount"]
    mount = [*command, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path_factory.mktemp("disk"))]
    # Only a file system that is full ends a write as a full disk does: a limit on the process gives another error.
    if shutil.which("unshare") is None or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no small disk can be mounted here: that takes Linux, and root or user namespaces")
    return command


ON_SMALL_DISK = """
mount -t tmpfs -o "$2" tmpfs "$1" && { "$4" "stages/$3.py"; code=$?; cp -r "$1" "$5"; exit $code; }
"""


@pytest.mark.parametrize(
    ("stage", "folder", "options", "named"),
    [
        ("fetch", "data/raw", "size=40k", "data/raw/reviews.json.gz"),
        ("parse_gzip", "data/interim", "size=16k", "data/interim/"),
        ("filter_reindex", "data/processed", "size=4k", "data/processed/users.parquet"),
        ("filter_reindex", "data/processed", "size=20k", "data/processed/interactions.parquet"),
        ("split", "data/split", "size=160k", "data/split/"),
        ("train_gpu", "models", "size=8k", "models/sasrec.safetensors"),
        ("train_gpu", "checkpoints", "size=16k", "checkpoints/train_gpu/"),
        ("evaluate", "metrics", "nr_inodes=1", "metrics/"),
    ],
)
def test_a_full_disk_is_named_and_nothing_half_written_stays(
    project: Path,
    finished: Path,
    tmp_path: Path,
    tally: Tally,
    in_namespace: list[str],
    stage: str,
    folder: str,
    options: str,
    named: str,
) -> None:
    (project / folder).mkdir(exist_ok=True)
    command = ["sh", "-c", ON_SMALL_DISK, "sh", folder, options, stage, PYTHON, tmp_path / "left"]
    done = subprocess.run([*in_namespace, *command], cwd=project, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {named}")
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    tally.injected += 1
    for path in (tmp_path / "left").rglob("*"):
        assert path.is_dir() or path.read_bytes() == (finished / folder / path.name).read_bytes()
