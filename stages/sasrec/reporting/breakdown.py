"""Breaks the metrics down by ranges of a count, such as the length of the history."""

from collections.abc import Iterator, Mapping

import numpy as np

from sasrec.evaluation import intervals
from sasrec.evaluation.metrics import HALF_WIDTH, METRICS
from sasrec.interactions.bins import LABELS, bin_of

HEADER = ["scorer", "readers", *(column for name in METRICS for column in (name, f"{name}{HALF_WIDTH}"))]


def by(
    name: str, counts: np.ndarray, ranks: Mapping[str, np.ndarray], k: int
) -> tuple[list[str], Iterator[list[object]]]:
    """Return the header and the rows of the breakdown by `counts`, whose `name` is that of the first column."""
    return [name, *HEADER], rows(counts, ranks, k)


def rows(counts: np.ndarray, ranks: Mapping[str, np.ndarray], k: int) -> Iterator[list[object]]:
    """Yield a row for each scorer and each range of `counts` (users,) that has users: the range, then HEADER's columns.

    `ranks` maps each scorer to its ranks, (users,). The half-widths are those of `intervals`.
    """
    bins = bin_of(counts)
    for number in np.unique(bins):
        inside = bins == number
        values = {
            scorer: {name: metric.of_users(all_ranks[inside], k) for name, metric in METRICS.items()}
            for scorer, all_ranks in ranks.items()
        }
        for scorer, found in intervals.summaries(values).items():
            yield [LABELS[number], scorer, int(inside.sum()), *found.values()]


def lengths(counts: np.ndarray, max_len: int) -> Iterator[list[object]]:
    """Yield each range of `counts` (users,), its number of users up to `max_len`, and its number of users beyond."""
    bins = bin_of(counts)
    for number in np.unique(bins):
        inside = counts[bins == number]
        yield [LABELS[number], int((inside <= max_len).sum()), int((inside > max_len).sum())]


def histogram(ranks: Mapping[str, np.ndarray], num_ranks: int) -> Iterator[list[object]]:
    """Yield each rank, from 1 to `num_ranks`, and for each scorer the number of users with that rank."""
    counts = [np.bincount(found, minlength=num_ranks).tolist() for found in ranks.values()]
    yield from ([rank, *row] for rank, row in enumerate(zip(*counts, strict=True), start=1))
