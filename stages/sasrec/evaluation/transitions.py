"""Counts which books training users read soon after which."""

import numpy as np

from sasrec.split.sequences import Sequences

MAX_DISTANCE = 10  # positions between two books that count as a transition
NUM_LATEST = 5  # the latest books of a history that count
DECAY = 0.8  # the weight of a book relative to the next one
UNIT = 2520  # divisible by every distance: integer sums are the same in any order


class Transitions:
    """How often book b is read within MAX_DISTANCE positions after book a; each time counts 1 / distance."""

    def __init__(self, histories: Sequences, num_books: int) -> None:
        self.num_books = num_books
        self.items = histories.items
        self.ends = np.repeat(histories.offsets[1:], histories.lengths)  # (total,): the end of each item's history
        self.positions = np.argsort(self.items, kind="stable")  # (total,): the indices in items, sorted by book
        # The first index in positions of each book, (num_books + 2,).
        self.starts = np.searchsorted(self.items[self.positions], np.arange(num_books + 2))
        self._rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def after(self, book: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the books read soon after `book`, ascending (books,) int64, and their weights, (books,) float64.

        Each result is computed once, on first use: a few thousand histories end in a small part of the catalogue.
        """
        if book not in self._rows:
            positions = self.positions[self.starts[book] : self.starts[book + 1], None]
            distances = np.arange(1, MAX_DISTANCE + 1)
            inside = positions + distances < self.ends[positions]  # (times `book` was read, MAX_DISTANCE)
            later = self.items[(positions + distances)[inside]]  # (transitions,)
            weights = np.broadcast_to(UNIT // distances, inside.shape)[inside]
            sums = np.bincount(later, weights, minlength=self.num_books + 1)
            books = np.flatnonzero(sums)
            self._rows[book] = books, sums[books] / UNIT
        return self._rows[book]

    def score(self, history: np.ndarray) -> np.ndarray:
        """Return every book's weight after the latest books of `history`, (num_books + 1,) float64."""
        scores = np.zeros(self.num_books + 1)
        for back, book in enumerate(history[::-1][:NUM_LATEST].tolist()):
            books, weights = self.after(book)
            scores[books] += DECAY**back * weights
        return scores
