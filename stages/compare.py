"""Says whether a change helped: compares the ranks of two runs user by user, with intervals and tests.

A run is `workspace`, a git revision, the name of an experiment, or the folder of another clone.
"""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
from pathlib import Path

import msgspec

from sasrec.core import errors, params
from sasrec.evaluation import rank_table
from sasrec.reporting import comparison, comparison_table, runs
from sasrec.split.params import EvaluationParams

PARAMS = Path("params.yaml")
RANKS = Path("data/evaluation/ranks.parquet")


def parse_arguments() -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", nargs="?", default="HEAD", metavar="A", help="a run; default: %(default)s")
    parser.add_argument("b", nargs="?", default=runs.WORKSPACE, metavar="B", help="a run; default: %(default)s")
    parser.add_argument(
        "--ranker",
        action="append",
        help="such as popularity; may be given several times; default: sasrec and hybrid",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="print Markdown, for a pull request")
    form.add_argument("--json", action="store_true", help="print JSON, with every metric of every group of users")
    return parser.parse_args()


def read(run: str) -> rank_table.RankTable:
    """Return the ranks of a run; raise UserError if there are none."""
    with runs.output(RANKS, run) as path:
        return rank_table.read(path)


def main() -> None:
    """Read the arguments and the ranks of both runs; print the comparison. This script is no stage."""
    arguments = parse_arguments()
    cutoffs = params.load(PARAMS, "evaluation", EvaluationParams).cutoffs
    names = (arguments.a, arguments.b)
    a, b = map(read, names)
    found = comparison.compare(a, b, names, arguments.ranker or ["sasrec", "hybrid"], cutoffs)
    if arguments.json:
        content = {"verdict": comparison_table.verdict(found), **msgspec.to_builtins(found)}
        print(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
    else:
        print(comparison_table.as_markdown(found) if arguments.md else comparison_table.as_text(found))


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
