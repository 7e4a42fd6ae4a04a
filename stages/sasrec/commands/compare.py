"""Says whether a change helped: compares the ranks of two runs user by user, with intervals and tests.

A run is `workspace`, a git revision, the name of an experiment, or the folder of another clone. Several runs that
differ in their seeds are base-0,base-1,base-2, or the experiments of a pattern: 'base-*'.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sasrec.core import params
from sasrec.evaluation import rank_table
from sasrec.reporting import comparison, comparison_table, figures, runs
from sasrec.split.params import EvaluationParams

PARAMS = Path("params.yaml")
RANKS = Path("data/evaluation/ranks.parquet")


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(prog="sasrec compare", description=__doc__)
    parser.add_argument("a", nargs="?", default="HEAD", metavar="A", help="a run, or several; default: %(default)s")
    parser.add_argument("b", nargs="?", default=runs.WORKSPACE, metavar="B", help="the same; default: %(default)s")
    figures.add_options(parser)
    return parser.parse_args(words)


def read(argument: str) -> dict[str, rank_table.RankTable]:
    """Return the ranks of each run that the argument names; raise UserError if there are none."""
    tables = {}
    for run in runs.named(argument):
        with runs.output(RANKS, run) as path:
            tables[run] = rank_table.read(path)
    return tables


def main(words: Sequence[str]) -> None:
    """Read the arguments and the ranks of all runs; print the comparison."""
    arguments = parse(words)
    cutoffs = params.load(PARAMS, "evaluation", EvaluationParams).cutoffs
    names = (arguments.a, arguments.b)
    a, b = map(read, names)
    found = comparison.compare_groups(a, b, names, arguments.ranker or figures.RANKERS, cutoffs)
    if arguments.json:
        content = {"verdict": comparison_table.verdict(found), **msgspec.to_builtins(found)}
        print(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
    else:
        print(comparison_table.as_markdown(found) if arguments.md else comparison_table.as_text(found))
