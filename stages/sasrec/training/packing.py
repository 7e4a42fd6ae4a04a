"""Packs several short histories into one row, so that less padding is computed."""

import math
from bisect import bisect_left, insort
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Layout(NamedTuple):
    """The slots of histories in rows of equal length. Unless noted, arrays are (elements,) int64."""

    slots: np.ndarray  # the slot of each element, counted through all rows
    segments: np.ndarray  # the history of each element, from 0
    positions: np.ndarray  # the position of each element: row length - 1 at the last element of a history
    begins: np.ndarray  # (histories,) int64: the index of each history's first element
    shape: tuple[int, int]  # (rows, length)

    def spread(self, column: np.ndarray) -> Tensor:
        """Return `column` (elements, ...) in the slots of the rows, (rows, length, ...) int64, with 0 elsewhere."""
        grid = np.zeros((math.prod(self.shape), *column.shape[1:]), dtype=np.int64)
        grid[self.slots] = column
        return torch.from_numpy(grid).view(*self.shape, *column.shape[1:])  # (rows, length, ...)


def pack(lengths: np.ndarray, row_length: int) -> Layout:
    """Return a layout for histories of `lengths` (histories,), none above `row_length`, in about the fewest rows."""
    starts, num_rows = best_fit(lengths, row_length)
    begins = np.cumsum(lengths) - lengths
    segments = np.repeat(np.arange(len(lengths)), lengths)  # (elements,)
    elements = np.arange(len(segments))
    slots = elements + (starts - begins)[segments]
    positions = elements + (row_length - lengths - begins)[segments]
    return Layout(slots, segments, positions, begins, (num_rows, row_length))


def best_fit(lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, int]:
    """Return each history's first slot, (histories,) int64, counted through all rows of `capacity` slots, and the rows.

    Best-fit decreasing places the longest history first, each into the fullest row with room. It needs at most 11/9 of
    the fewest rows possible (Johnson 1973). No history may be longer than `capacity`.
    """
    starts = np.empty(len(lengths), dtype=np.int64)
    rooms: list[tuple[int, int]] = []  # (free slots at the end, row) for each row with room, ascending
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
