"""Lists the workspace, the last commit and the experiments since ten commits ago, best on the validation users first.

The figures are NDCG@10 of the validation users, among all books (full) and among the sampled ones.
"""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
import json
import sys
from pathlib import Path

from sasrec.core import errors
from sasrec.reporting import experiments, provenance

PARAMS = Path("params.yaml")
METRICS = Path("metrics/train.json")


def parse_arguments() -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=10, help="whose experiments to list; default: %(default)s")
    return parser.parse_args()


def main() -> None:
    """Ask DVC for the experiments and print the table. This script is no stage."""
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", "--num", str(parse_arguments().commits)]
    shown = json.loads(provenance.output_of(*command))
    print(experiments.as_text(list(experiments.runs(shown, PARAMS.as_posix(), METRICS.as_posix()))))


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
