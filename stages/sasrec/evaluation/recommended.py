"""Measures what rankers recommend, whether right or not: the books among the first k of each user's full ranking."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sasrec.evaluation.metrics import DECIMALS
from sasrec.evaluation.ranking import Scorer, Scores, read_books
from sasrec.split.datasets import HeldOut, TrainingSet
from sasrec.split.sequences import Sequences


class Counted:
    """A scorer that counts, while its scores are used, how many users have each book among their first k."""

    def __init__(self, scorer: Scorer, held_out: HeldOut, num_books: int, k: int) -> None:
        self.scorer = scorer
        self.held_out = held_out
        self.k = min(k, num_books)
        self.counts = torch.zeros(num_books + 1, dtype=torch.int64)

    def __call__(self, histories: Sequences) -> Scores:
        """Return the scorer's function."""
        of_scorer = self.scorer(histories)

        def score_users(users: np.ndarray) -> Tensor:
            scores = of_scorer(users)
            self.counts += self._first_k(users, scores).sum(0).cpu()
            return scores

        return score_users

    def _first_k(self, users: np.ndarray, scores: Tensor) -> Tensor:
        """Return whether each book is among the user's first k, (users, num_books + 1) bool; the lowest of equals is.

        topk itself takes any of equals.
        """
        true_books = torch.from_numpy(self.held_out.true_books[users]).to(scores.device).long()[:, None]
        left = scores.clone()
        left[:, 0] = -torch.inf
        left[read_books(self.held_out, users)] = -torch.inf
        left.scatter_(1, true_books, scores.gather(1, true_books))  # the true book may be a re-read
        last = left.topk(self.k).values[:, -1:]  # (users, 1)
        chosen = left >= last
        if (chosen.sum(1) > self.k).any():
            equal = left == last
            chosen &= ~equal | (equal.cumsum(1) <= self.k - (left > last).sum(1, keepdim=True))
        return chosen & (left > -torch.inf)


def summary(
    counts: Mapping[str, np.ndarray], train: TrainingSet, true_books: np.ndarray, k: int
) -> dict[str, dict[str, float]]:
    """Return the figures of each ranker from its `counts` (num_books + 1,), and those of the books taken up.

    coverage: the share of all books that are recommended to anyone. gini: how unequally often, from 0, all books
    equally, to 1. novelty: the mean self-information of a recommended book, in bits: -log2 of its share of the
    training ratings, of which a book without any counts as one. popularity: the mean number of its training ratings.
    """
    ratings = np.bincount(train.histories.items, minlength=train.num_books + 1)[1:]
    bits = -np.log2(np.maximum(ratings, 1) / ratings.sum())
    taken_up = np.bincount(true_books, minlength=train.num_books + 1)
    figures: dict[str, dict[str, float]] = {}
    for ranker, times in (*counts.items(), ("true_books", taken_up)):
        weights = times[1:] / times[1:].sum()
        figures[ranker] = {"novelty": float(weights @ bits), "popularity": float(weights @ ratings)}
        if ranker in counts:
            figures[ranker] |= {"coverage": float((weights > 0).mean()), "gini": gini(weights)}
    return {
        ranker: {f"{name}@{k}" if ranker in counts else name: round(value, DECIMALS) for name, value in found.items()}
        for ranker, found in figures.items()
    }


def gini(shares: np.ndarray) -> float:
    """Return the Gini coefficient of `shares` (books,), whose sum is 1."""
    number = len(shares)
    return float((2 * np.arange(1, number + 1) - number - 1) @ np.sort(shares) / number)
