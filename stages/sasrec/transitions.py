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
        self.stride = num_books + 1
        reader = np.repeat(np.arange(len(histories)), histories.lengths)
        items = histories.items.astype(np.int64)
        pairs, weights = [], []
        for distance in range(1, MAX_DISTANCE + 1):
            same_reader = reader[distance:] == reader[:-distance]
            pairs.append(items[:-distance][same_reader] * self.stride + items[distance:][same_reader])
            weights.append(np.full(len(pairs[-1]), WHOLE // distance))
        all_pairs, all_weights = np.concatenate(pairs), np.concatenate(weights)
        order = np.argsort(all_pairs)
        sorted_pairs = all_pairs[order]
        starts = np.flatnonzero(np.diff(sorted_pairs, prepend=-1))
        sums = np.add.reduceat(all_weights[order], starts) if len(starts) else np.empty(0)
        self.weights = sums / WHOLE
        self.books = sorted_pairs[starts] % self.stride  # read later
        self.offsets = np.searchsorted(sorted_pairs[starts], np.arange(self.stride + 1) * self.stride)  # by book a

    def score(self, history: np.ndarray) -> np.ndarray:
        """Return every book's weight after the latest books of `history`, (num_books + 1,) float64."""
        scores = np.zeros(self.stride)
        for back, book in enumerate(history[::-1][:NUM_LATEST]):
            after = slice(self.offsets[book], self.offsets[book + 1])
            scores[self.books[after]] += DECAY**back * self.weights[after]
        return scores
