"""Baselines that count instead of learning. A new baseline is a function and a row of BASELINES."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from sasrec.evaluation.ranking import Scorer, Scores
from sasrec.split.datasets import TrainingSet
from sasrec.split.sequences import Sequences

RECENT_FRACTION = 0.1  # the latest fraction of the training ratings
MAX_DISTANCE = 10  # positions between two books that count as a transition
NUM_LATEST = 5  # the latest books of a history that count
DECAY = 0.8  # the weight of a book relative to the next one
UNIT = 2520  # divisible by every distance: integer sums are the same in any order


def popularity(train: TrainingSet) -> Scorer:
    """Return the scorer that counts how often training users read each book."""
    return _same_for_all(_counts(train))


def recent_popularity(train: TrainingSet) -> Scorer:
    """Return the scorer that counts each book in the latest tenth of the training ratings, rounded to whole days."""
    first_day = np.quantile(train.days, 1 - RECENT_FRACTION, method="higher")
    recent = train.histories.items[train.days >= first_day]
    return _same_for_all(np.bincount(recent, minlength=train.num_books + 1))


def item_transitions(train: TrainingSet) -> Scorer:
    """Return the scorer that counts how often training users read each book soon after the user's latest books.

    Popularity breaks ties.
    """
    transitions = Transitions(train.histories, train.num_books)
    counts = _counts(train)
    tie_breaker = 1e-9 * counts / counts.max()  # smaller than any difference between transition scores

    def score(histories: Sequences) -> Scores:
        def score_users(users: np.ndarray) -> Tensor:
            scores = [transitions.score(histories[user]) for user in users]
            return torch.from_numpy(np.stack(scores) + tie_breaker)  # (len(users), num_books + 1) float64

        return score_users

    return score


BASELINES: Mapping[str, Callable[[TrainingSet], Scorer]] = {
    "popularity": popularity,
    "recent_popularity": recent_popularity,
    "item_transitions": item_transitions,
}
"""The baselines by name; each makes a scorer from the training set."""


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


def _counts(train: TrainingSet) -> np.ndarray:
    """Return the number of training ratings of each book, (num_books + 1,) int64."""
    return np.bincount(train.histories.items, minlength=train.num_books + 1)


def _same_for_all(counts: np.ndarray) -> Scorer:
    """Return a scorer that gives every user the scores `counts` (num_books + 1,)."""
    scores = torch.from_numpy(counts.astype(np.float32))  # exact below 2 ** 24 ratings of a book
    return lambda _histories: lambda users: scores.expand(len(users), -1)
