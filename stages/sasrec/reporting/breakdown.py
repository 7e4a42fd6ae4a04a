"""Breaks the metrics down by ranges of a count, such as the length of the history, and counts for the other plots.

Rankers and metrics are rows, not columns, so that dvc.yaml need not name them. A function returns a header and rows.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from sasrec.evaluation import intervals
from sasrec.evaluation.metrics import METRICS
from sasrec.interactions.bins import LABELS, bin_of

Table = tuple[list[str], Iterator[list[object]]]


def by(name: str, counts: np.ndarray, ranks: Mapping[str, np.ndarray], k: int) -> Table:
    """Return the metrics by ranges of `counts` (users,), whose `name` is the first column's; `ranks` are by ranker."""
    return [name, "ranker", "users", "metric", "value", "low", "high"], _rows(counts, ranks, k)


def lengths(counts: np.ndarray, max_len: int) -> Table:
    """Return the ranges of `counts` (users,), the number of users up to `max_len`, and the number beyond."""
    bins = bin_of(counts)
    inside = {number: counts[bins == number] for number in np.unique(bins)}
    rows = ([LABELS[number], int((of <= max_len).sum()), int((of > max_len).sum())] for number, of in inside.items())
    return ["books", "up_to_max_len", "beyond_max_len"], rows


def histogram(ranks: Mapping[str, np.ndarray], num_ranks: int) -> Table:
    """Return each ranker's number of users with each rank, from 1 to `num_ranks`."""
    rows = (
        [ranker, rank, users]
        for ranker, found in ranks.items()
        for rank, users in enumerate(np.bincount(found, minlength=num_ranks).tolist(), start=1)
    )
    return ["ranker", "rank", "users"], rows


def _rows(counts: np.ndarray, ranks: Mapping[str, np.ndarray], k: int) -> Iterator[list[object]]:
    bins = bin_of(counts)
    for number in np.unique(bins):
        inside = bins == number
        values = {
            ranker: {f"{name}@{k}": metric.of_users(all_ranks[inside], k) for name, metric in METRICS.items()}
            for ranker, all_ranks in ranks.items()
        }
        for ranker, found in intervals.estimates(values).items():
            for name, estimate in found.items():
                yield [LABELS[number], ranker, int(inside.sum()), name, *estimate]
