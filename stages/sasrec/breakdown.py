"""Says for which readers and books a ranking is good: the metrics by ranges of a count."""

from collections.abc import Iterator, Mapping

import numpy as np

from sasrec import ranking
from sasrec.bins import LABELS, bin_of

HEADER = ["scorer", "readers", "HR", "HR_half_width", "NDCG", "NDCG_half_width"]


def rows(counts: np.ndarray, ranks: Mapping[str, np.ndarray], k: int) -> Iterator[list[object]]:
    """Yield a range of `counts`, (readers,), and what HEADER names, for each range and scorer that has readers.

    `ranks` are each scorer's, (readers,). The half-widths are of the 95 % interval, as in `ranking.summary`.
    """
    bins = bin_of(counts)
    for number in np.unique(bins):
        inside = bins == number
        for scorer, all_ranks in ranks.items():
            yield [LABELS[number], scorer, int(inside.sum()), *ranking.summary(all_ranks[inside], k).values()]


def lengths(counts: np.ndarray, max_len: int) -> Iterator[list[object]]:
    """Yield a range of `counts`, (readers,), the readers in it with at most `max_len`, and those with more."""
    bins = bin_of(counts)
    for number in np.unique(bins):
        inside = counts[bins == number]
        yield [LABELS[number], int((inside <= max_len).sum()), int((inside > max_len).sum())]
