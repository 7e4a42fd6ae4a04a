"""Ctrl-C and SIGTERM end a script with one line and status 1, whatever it does; nothing half-written stays.

Each script is interrupted at three moments: its first statement, and twice in its imports. `make faults` takes many.
"""

import gzip
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, review, set_params

from sasrec.core import interrupts

TOOLS = {
    "show": [],
    "recommend": ["--all", "metrics/recommended.parquet"],
    "report": ["--output", "metrics/report.html"],
    "export": [],
    "compare": ["workspace", "workspace"],
}
STAGES = ["check_params", "fetch", "parse_gzip", "filter_reindex", "split", "train_gpu", "evaluate"]
FAULTS = int(os.environ.get("FAULTS", "1"))
LIBRARIES_APART = 40  # that a script has loaded more of, from one moment to the next: its imports take most of its time
NUM_MOMENTS = 3 if FAULTS == 1 else None  # None: to the script's end, as `make faults` takes them

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="/proc, which tells how far a script is, is Linux's"
)


def start(folder: Path, *command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "stages")},
        # A shell without job control lets what it starts in the background ignore Ctrl-C, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        start_new_session=True,
    )


def answers_signals(process: subprocess.Popen[str]) -> bool:
    """Whether the process handles SIGTERM, which Python itself does not."""
    fields = dict(
        line.split(":\t") for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":\t" in line
    )
    return bool(int(fields.get("SigCgt", "0"), 16) >> signal.SIGTERM - 1 & 1)


def num_libraries(process: subprocess.Popen[str]) -> int:
    maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    return len({line.split()[-1] for line in maps if ".so" in line})


def wait_for_libraries(process: subprocess.Popen[str], number: int) -> int | None:
    """How many it has loaded, once they are `number` and it answers signals; None where it ended before."""
    while process.poll() is None:
        found = num_libraries(process)
        if found >= number and answers_signals(process):
            return found
        time.sleep(0.003)  # to look costs time, too
    return None


@pytest.fixture(scope="module")
def place(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pipeline, which no interrupted script changes."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("interrupted") / "project")


def moments(folder: Path, *command: object) -> Iterator[subprocess.Popen[str]]:
    """The script again and again, each time at a later moment, from its first statement on; those are closer."""
    loaded: int | None = 0
    while loaded is not None:
        with start(folder, *command) as process:
            loaded = wait_for_libraries(process, loaded)
            if loaded is not None:
                yield process
                loaded += min(3 * loaded, max(1, LIBRARIES_APART // FAULTS))


def half_written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*partial*") if ".dvc" not in path.parts]


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit status, and what is on standard error, but for where training goes on from."""
    lines = process.communicate()[1].splitlines(keepends=True)
    return process.returncode, "".join(line for line in lines if not line.startswith("checkpoints/"))


INTERRUPTED = (1, f"error: interrupted; {interrupts.OF_A_STAGE}\n")


@pytest.mark.parametrize("script", [*STAGES, *TOOLS])
def test_a_script_answers_a_signal_from_its_first_statement_on(place: Path, script: str) -> None:
    advice = interrupts.OF_A_TOOL if script in TOOLS else interrupts.OF_A_STAGE
    ends = []
    chosen = itertools.islice(moments(place, f"stages/{script}.py", *TOOLS.get(script, [])), NUM_MOMENTS)
    for number, process in enumerate(chosen):
        process.send_signal([signal.SIGTERM, signal.SIGINT][number % 2])
        status, said = end_of(process)
        ends.append((status, said.splitlines()[-1] if status else ""))  # a tool may have said what it wrote
        assert "Traceback" not in said
        assert half_written(place) == []
    # The last signal may come when everything is done, and Python about to end.
    assert set(ends) <= {(1, f"error: interrupted; {advice}"), (0, "")}
    assert ends[0][0] == 1


def test_the_library_changes_no_handler_of_whoever_imports_it() -> None:
    code = (
        "import signal; before = list(map(signal.getsignal, signal.valid_signals()));"
        "import sasrec.core.errors, sasrec.core.interrupts, sasrec.serving.recommender;"
        "assert list(map(signal.getsignal, signal.valid_signals())) == before"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT / "stages")}, check=True)


IN_MAIN = """
import signal
from pathlib import Path
from sasrec.core import errors
from sasrec.core import interrupts
from sasrec.io import files

interrupts.end_at_once()

def twice():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        Path("tidied").touch()

def as_another_exception():
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        raise ImportError("initialization failed") from None

def swallowed():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        pass
    signal.pause()

def after_the_end():
    Path("tidied").touch()

def main():
    with files.atomic_write(Path("output")) as partial:
        partial.touch()
        {case}()

errors.run(main)
if "{case}" == "after_the_end":
    signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("case", ["twice", "as_another_exception", "swallowed", "after_the_end"])
def test_a_signal_is_one_line_however_it_reaches_the_end(tmp_path: Path, case: str) -> None:
    (tmp_path / "script.py").write_text(IN_MAIN.format(case=case))
    assert end_of(start(tmp_path, "script.py")) == INTERRUPTED
    left = {
        "twice": {"tidied"},
        "as_another_exception": set(),
        "swallowed": set(),
        "after_the_end": {"tidied", "output"},
    }
    assert {path.name for path in tmp_path.iterdir()} == {"script.py", *left[case]}


AT_EXIT = """
from sasrec.core import interrupts
interrupts.end_at_once()
import signal

class Last:
    def __del__(self):
        self.signal.raise_signal(self.signal.SIGTERM)

last = Last()
last.signal = signal
"""


def test_a_signal_while_python_ends_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(AT_EXIT)
    assert end_of(start(tmp_path, "script.py")) == (0, "")


def test_ctrl_c_while_the_processes_of_a_stage_start_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    set_params(tmp_path, parse_gzip={"num_processes": 2})
    shard = gzip.compress((json.dumps(review()) + "\n").encode() * 100_000, 1)
    for number in range(1, 9):
        path = tmp_path / f"data/raw/reviews.json.gz/{number:05}.json.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shard)
    ends = []
    for number in range(3 * FAULTS):
        process = start(tmp_path, ROOT / "stages/parse_gzip.py")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(children.read_text().split()) < 3:  # two, and Python's own that tracks resources
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(0.1 * number)  # while they import
        os.killpg(process.pid, signal.SIGINT)
        ends.append(end_of(process))
        assert half_written(tmp_path) == []
    assert ends[0] == INTERRUPTED
    assert set(ends) <= {INTERRUPTED, (0, "")}  # the last ones may come when everything is done


@pytest.fixture
def answered() -> Iterator[None]:
    """Ctrl-C is answered, as in a terminal: a shell starts what runs in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("answered")
def test_a_signal_that_another_thread_receives_waits_until_the_processes_are_started() -> None:
    begun, steps = threading.Event(), []

    def receive() -> None:
        begun.wait()
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    other = threading.Thread(target=receive)
    other.start()  # outside the block, in which new threads cannot receive it
    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        with interrupts.kept_from_processes():
            begun.set()
            other.join()
            steps.append("started")
        steps.append("went on")
    assert steps == ["started"]


@pytest.mark.usefixtures("answered")
def test_an_import_is_finished_before_a_signal_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_imported.py").write_text("import signal; signal.raise_signal(signal.SIGTERM); whole = True")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        import half_imported

        assert half_imported.whole
        signal.pause()  # the signal is answered here


@pytest.mark.usefixtures("answered")
def test_an_interrupt_that_a_destructor_swallows_is_raised_when_the_block_ends() -> None:
    class Interrupting:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        Interrupting()  # deleted at once
