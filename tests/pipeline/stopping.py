"""Stops commands of a project at an exact place, which no slow or busy machine misses."""

import os
import signal
import subprocess
import sys
from pathlib import Path

HOOK = """
import os, sys

times = {times}

def at_a_name(event, arguments):
    global times
    if event in ("os.link", "os.rename") and {place!r} in os.fspath(arguments[1]):
        times -= 1
        if times == 0:
            os.killpg(0, {number})

sys.addaudithook(at_a_name)
"""


def start(
    project: Path, folder: Path, *command: str, ends_at: str, with_signal: signal.Signals, times: int = 1
) -> subprocess.Popen[str]:
    """Start a command that gets a signal, with all that it started, just before a written file gets its name.

    It is the file number `times`, from 1, of those that one process writes to a path with `ends_at` in it. In `folder`
    Python finds what sends the signal.
    """
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK.format(times=times, place=ends_at, number=int(with_signal)))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    return subprocess.Popen(command, cwd=project, env=environment, start_new_session=True)
