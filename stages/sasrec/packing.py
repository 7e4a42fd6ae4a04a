"""Puts several short histories into one row, so that little of what is computed is padding."""

from bisect import bisect_left, insort

import numpy as np


def best_fit(lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
    """Return where each history starts, counted through all rows of `capacity` places, and the number of rows.

    The longest is placed first, each into the fullest row that has room (best-fit decreasing: at most 11/9 of the
    fewest rows possible; Johnson 1973). No history may be longer than `capacity`.
    """
    starts = np.empty(len(lengths), dtype=np.int64)
    rooms: list[tuple[int, int]] = []  # (free places at its end, row) of every row that has some, ascending
    num_rows = 0
    for index in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[index])
        fit = bisect_left(rooms, (length, 0))
        if fit == len(rooms):
            room, row = capacity, num_rows
            num_rows += 1
        else:
            room, row = rooms.pop(fit)
        starts[index] = (row + 1) * capacity - room
        if room > length:
            insort(rooms, (room - length, row))
    return starts, num_rows
