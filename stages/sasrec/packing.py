"""Puts several short histories into one row, so that little of what is computed is padding."""

import math
from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Layout(NamedTuple):
    """Where the elements of histories lie in rows of equal length; the arrays hold one int64 an element."""

    places: np.ndarray  # counted through all rows
    segments: np.ndarray  # the number of the history, from 0
    positions: np.ndarray  # length - 1 at the last element of a history
    begins: np.ndarray  # (histories,) int64: the number of each history's first element
    shape: tuple[int, int]  # rows and their length

    def spread(self, column: np.ndarray) -> Tensor:
        """Return `column` (elements, ...) in its places, (rows, length, ...) int64, 0 elsewhere."""
        grid = np.zeros((math.prod(self.shape), *column.shape[1:]), dtype=np.int64)
        grid[self.places] = column
        return torch.from_numpy(grid).view(*self.shape, *column.shape[1:])


def pack(lengths: np.ndarray, row_length: int) -> Layout:
    """Return a layout for histories of these lengths, none above `row_length`, in about the fewest rows."""
    starts, num_rows = best_fit(lengths, row_length)
    begins = np.cumsum(lengths) - lengths
    segments = np.repeat(np.arange(len(lengths)), lengths)
    elements = np.arange(len(segments))
    places = elements + (starts - begins)[segments]
    positions = elements + (row_length - lengths - begins)[segments]
    return Layout(places, segments, positions, begins, (num_rows, row_length))


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
