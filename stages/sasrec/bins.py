"""Ranges for counts that span orders of magnitude: 0, 1, 2-4, 5-9, 10-19, 20-49, ..."""

from itertools import pairwise

import numpy as np

STARTS = [0] + [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
LABELS = [str(first) if first == next_ - 1 else f"{first}-{next_ - 1}" for first, next_ in pairwise(STARTS)]
LABELS.append(f"{STARTS[-1]}+")


def bin_of(counts: np.ndarray) -> np.ndarray:
    """Return which of LABELS each count, 0 or more, belongs to, int64 of the same shape."""
    return np.searchsorted(STARTS, counts, side="right") - 1
