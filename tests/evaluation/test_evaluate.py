import sys
from pathlib import Path

from conftest import ROOT, runner

CODE = "import sys, evaluate; evaluate.main(); sys.exit('torch._dynamo' in sys.modules)"


def test_the_stage_does_without_pytorchs_compiler_whose_import_takes_a_second(project: Path) -> None:
    runner(project)("env", f"PYTHONPATH={ROOT / 'stages'}", sys.executable, "-c", CODE)
