import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

CODE = "import os; from sasrec.core import errors; errors.run(lambda: {})"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_where_the_reader_has_read_enough_the_program_ends_without_a_word(unbuffered: str) -> None:
    variables, pipe = ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered}, subprocess.PIPE
    command = [sys.executable, "-c", CODE.format("print('line\\n' * 100_000)")]
    with subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe) as program:
        assert program.stdout.readline() == b"line\n"
        program.stdout.close()
        assert (program.wait(), program.stderr.read()) == (128 + signal.SIGPIPE, b"")


def test_another_broken_pipe_is_one_line() -> None:
    command = [sys.executable, "-c", CODE.format("[os.close((pipe := os.pipe())[0]), os.write(pipe[1], b'x')]")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: input or output: Broken pipe\n")
