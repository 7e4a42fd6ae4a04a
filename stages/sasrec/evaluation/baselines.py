"""Baselines that count instead of learning. A new baseline is a function and a row of BASELINES."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from sasrec.evaluation.ranking import Scorer, Scores
from sasrec.split.datasets import TrainingSet
from sasrec.split.sequences import Sequences

RECENT_FRACTION = 0.1  # the latest fraction of the training ratings


def popularity(train: TrainingSet) -> Scorer:
    """Return the scorer that counts how often training users read each book."""
    return _same_for_all(counts(train))


def recent_popularity(train: TrainingSet) -> Scorer:
    """Return the scorer that counts each book in the latest tenth of the training ratings, rounded to whole days."""
    return _same_for_all(recent_counts(train))


def item_transitions(train: TrainingSet) -> Scorer:
    """Return the scorer that counts how often training users read each book soon after the user's latest books.

    Popularity breaks ties.
    """
    transitions, ratings = train.transitions, counts(train)
    tie_breaker = 1e-9 * ratings / ratings.max()  # smaller than any difference between transition scores

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


def counts(train: TrainingSet) -> np.ndarray:
    """Return the number of training ratings of each book, (num_books + 1,) int64."""
    return np.bincount(train.histories.items, minlength=train.num_books + 1)


def recent_counts(train: TrainingSet) -> np.ndarray:
    """Return the number of each book's ratings in the latest RECENT_FRACTION of all, (num_books + 1,) int64."""
    first_day = np.quantile(train.days, 1 - RECENT_FRACTION, method="higher")
    return np.bincount(train.histories.items[train.days >= first_day], minlength=train.num_books + 1)


def _same_for_all(scored: np.ndarray) -> Scorer:
    """Return a scorer that gives every user the scores `scored` (num_books + 1,)."""
    scores = torch.from_numpy(scored.astype(np.float32))  # exact below 2 ** 24 ratings of a book
    return lambda _histories: lambda users: scores.expand(len(users), -1)
