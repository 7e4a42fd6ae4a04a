"""The figures that summaries and comparisons of runs show: each metric of a ranker in one of its two lists."""

import argparse
from collections.abc import Sequence

import numpy as np

from sasrec.core.errors import UserError
from sasrec.evaluation import rank_table
from sasrec.evaluation.rank_table import RankTable

RANKERS = ("sasrec", "hybrid")
"""What is shown where the user names no ranker."""

MIN_USERS = 2  # that show the chance of users

Label = tuple[str, str, str]
"""The ranker, the list (sampled or full) and the metric."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a script that prints figures: `ranker`, None or a list, `md` and `json`, at most one true."""
    parser.add_argument(
        "--ranker",
        action="append",
        help=f"such as popularity; may be given several times; default: {' and '.join(RANKERS)}",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="print Markdown, for a pull request")
    form.add_argument("--json", action="store_true", help="print JSON, with every figure")


def of_users(table: RankTable, name: str, rankers: Sequence[str], cutoffs: Sequence[int]) -> dict[Label, np.ndarray]:
    """Return each user's values, (users,) float64, by label.

    Raises:
        UserError: the run `name` lacks a ranker, or has too few users for an interval.

    """
    if missing := [ranker for ranker in rankers if ranker not in table.ranks]:
        raise UserError(f"{name} has no ranker {missing[0]}; choose some of {', '.join(table.ranks)}")
    if len(table.user_ids) < MIN_USERS:
        raise UserError(
            f"{name} ranked for one user, which does not show the chance of users; raise evaluation.num_user_sample in "
            "params.yaml, and run it again"
        )
    values = rank_table.values(table, rankers, cutoffs)
    return {(*ranking, metric): each for ranking, of_ranking in values.items() for metric, each in of_ranking.items()}
