"""Summarises runs that differ in their seeds: mean, standard deviation and interval of each metric."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from sasrec.core import visible
from sasrec.core.errors import UserError
from sasrec.evaluation.metrics import DECIMALS
from sasrec.evaluation.rank_table import RankTable
from sasrec.reporting import chance, figures

WIDTH = 80
COLUMNS = ("mean", "sd over seeds", "95 % interval")
WIDTHS = (8, 15, 20)


class Figure(msgspec.Struct, frozen=True):
    """One metric of one ranker over several runs."""

    ranker: str
    ranked: str  # the list: "sampled" or "full"
    metric: str
    mean: float
    deviation: float  # the standard deviation of the runs' values
    low: float  # of the 95 % interval of the mean
    high: float


class Summary(msgspec.Struct, frozen=True):
    """The metrics over several runs."""

    runs: list[str]
    users: int  # that each run ranked for
    has_same_lists: bool  # all runs ranked the same
    figures: list[Figure]


def summarise(runs: Mapping[str, RankTable], rankers: Sequence[str], cutoffs: Sequence[int]) -> Summary:
    """Return each metric of `rankers` over `runs`, by name; raise UserError if a run lacks a ranker or is the only one.

    Runs with lists of their own are independent draws: what users change is in what the runs differ by.
    """
    if len(runs) < chance.MIN_RUNS:
        raise UserError(f"{next(iter(runs))} alone does not show the chance of seeds; take two runs or more")
    found = [figures.of_users(table, run, rankers, cutoffs) for run, table in runs.items()]
    means = np.array([[each.mean() for each in of_run.values()] for of_run in found])  # (runs, figures)
    has_same_lists = len({table.task for table in runs.values()}) == 1
    if has_same_lists:
        values = np.array([list(of_run.values()) for of_run in found])  # (runs, figures, users)
        users, both = [chance.of_users(values.mean(0))], chance.of_both(values)
        estimate = chance.estimate(means.mean(0), users, [chance.of_runs(means)], both)
    else:
        estimate = chance.estimate(means.mean(0), [], [chance.of_runs(means)])
    columns = (means.mean(0), means.std(0, ddof=1), np.maximum(estimate.low, 0), np.minimum(estimate.high, 1))
    rows = np.stack(columns, axis=1).round(DECIMALS).tolist()
    labelled = [Figure(*label, *row) for label, row in zip(found[0], rows, strict=True)]
    return Summary(list(runs), len(next(iter(runs.values())).user_ids), has_same_lists, labelled)


def as_text(summary: Summary) -> str:
    """Return the table for a terminal, at most WIDTH characters wide."""
    lines = [*textwrap.wrap(_explanation(summary), WIDTH), "", _line("", COLUMNS)]
    for ranker, rows in _by_ranker(summary):
        lines += [visible.text(ranker), *(_line(f"  {row.ranked} {row.metric}", _cells(row)) for row in rows)]
    return "\n".join(lines)


def as_markdown(summary: Summary) -> str:
    """Return the table in Markdown."""
    lines = [_explanation(summary), "", _row("", COLUMNS), "|---" * (len(COLUMNS) + 1) + "|"]
    for ranker, rows in _by_ranker(summary):
        lines += [_row(f"**{ranker}**", [""] * len(COLUMNS))]
        lines += [_row(f"{row.ranked} {row.metric}", _cells(row)) for row in rows]
    return "\n".join(lines)


def _by_ranker(summary: Summary) -> Iterator[tuple[str, list[Figure]]]:
    for ranker in dict.fromkeys(row.ranker for row in summary.figures):
        yield ranker, [row for row in summary.figures if row.ranker == ranker]


def _explanation(summary: Summary) -> str:
    runs = visible.text(f"{len(summary.runs)} runs, {summary.runs[0]} to {summary.runs[-1]}, ranked")
    if summary.has_same_lists:
        return (
            f"{runs} the same lists of {summary.users:,} users. The interval of the mean counts the chance of "
            "seeds and of users."
        )
    return (
        f"{runs} lists of {summary.users:,} users each, of other users in each run. The interval of the mean counts "
        "the chance of seeds and of users, as independent runs show it."
    )


def _cells(row: Figure) -> list[str]:
    return [f"{row.mean:.4f}", f"{row.deviation:.4f}", f"{row.low:.4f} to {row.high:.4f}"]


def _row(label: str, cells: Sequence[str]) -> str:
    return f"| {label} | {' | '.join(cells)} |"


def _line(label: str, cells: Sequence[str]) -> str:
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
    return f"{label:<26}{''.join(padded)}".rstrip()
