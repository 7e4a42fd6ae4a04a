"""Counts which book is read how soon after which: the strongest simple baseline."""

import numpy as np

from sasrec.sequences import Sequences

MAX_DISTANCE = 10  # places between two books that count as a transition
NUM_LATEST = 5  # books of a history that are looked at
DECAY = 0.8  # of the weight of each one before the last
WHOLE = 2520  # divisible by every distance: sums of integers are the same in any order


class Transitions:
    """How often book b is read within MAX_DISTANCE places after book a, each time weighted 1 / distance."""

    def __init__(self, histories: Sequences, num_books: int) -> None:
        self.num_books = num_books
        self.items = histories.items
        self.ends = np.repeat(histories.offsets[1:], histories.lengths)  # of the history that each item is in
        self.places = np.argsort(self.items, kind="stable")  # where in items each book is, a book after another
        self.starts = np.searchsorted(self.items[self.places], np.arange(num_books + 2))  # in places, by book
        self._rows: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def after(self, book: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the books read soon after `book`, ascending, and their weights, float64.

        Computed when it is first asked for: a few thousand histories end in a small part of the catalogue.
        """
        if book not in self._rows:
            places = self.places[self.starts[book] : self.starts[book + 1], None]
            distances = np.arange(1, MAX_DISTANCE + 1)
            inside = places + distances < self.ends[places]  # (times that it was read, MAX_DISTANCE)
            later = self.items[(places + distances)[inside]]
            weights = np.broadcast_to(WHOLE // distances, inside.shape)[inside]
            sums = np.bincount(later, weights, minlength=self.num_books + 1)
            books = np.flatnonzero(sums)
            self._rows[book] = books, sums[books] / WHOLE
        return self._rows[book]

    def score(self, history: np.ndarray) -> np.ndarray:
        """Return every book's weight after the latest books of `history`, (num_books + 1,) float64."""
        scores = np.zeros(self.num_books + 1)
        for back, book in enumerate(history[::-1][:NUM_LATEST].tolist()):
            books, weights = self.after(book)
            scores[books] += DECAY**back * weights
        return scores
