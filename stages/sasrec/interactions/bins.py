"""Ranges for counts that span orders of magnitude: 0, 1, 2-4, 5-9, 10-19, 20-49, ..."""

from itertools import pairwise

import numpy as np

STARTS = [0] + [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
LABELS = [str(first) if first == next_ - 1 else f"{first}-{next_ - 1}" for first, next_ in pairwise(STARTS)]
LABELS.append(f"{STARTS[-1]}+")


def bin_of(counts: np.ndarray) -> np.ndarray:
    """Return the index in LABELS of each count, 0 or more: int64, of the same shape."""
    return np.searchsorted(STARTS, counts, side="right") - 1


def histogram(counts: np.ndarray, times: np.ndarray) -> list[tuple[str, int]]:
    """Return (label, total) for each range that is not empty; `counts[i]` occurs `times[i]` times."""
    totals = np.zeros(len(LABELS), np.int64)
    np.add.at(totals, bin_of(counts), times)
    return [(LABELS[number], int(totals[number])) for number in np.flatnonzero(totals)]
