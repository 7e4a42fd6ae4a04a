import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

CODE = "from sasrec.core import errors; errors.run(lambda: print('line\\n' * 100_000))"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_where_the_reader_has_read_enough_the_program_ends_without_a_word(unbuffered: str) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "stages"), "PYTHONUNBUFFERED": unbuffered}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", CODE], env=variables, stdout=pipe, stderr=pipe) as program:
        assert program.stdout.readline() == b"line\n"
        program.stdout.close()
        assert (program.wait(), program.stderr.read()) == (128 + signal.SIGPIPE, b"")
