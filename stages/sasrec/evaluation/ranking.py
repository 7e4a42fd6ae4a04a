"""Ranks each user's true book among sampled negatives and in the full catalogue."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sasrec.core.errors import UserError
from sasrec.evaluation import metrics
from sasrec.runtime.world import ALONE, World
from sasrec.split.datasets import HeldOut
from sasrec.split.sequences import Sequences

NOT_FINITE = -1  # replaces the rank of a score that is not finite
USERS_PER_BATCH = 32  # on the CPU: the scores of 25,000 books take 3 MB, which fit in the cache
USERS_ON_GPU = 1024  # one batch holds all users of params.yaml
CPU = torch.device("cpu")

Scores = Callable[[np.ndarray], Tensor]
"""Takes the indices (users,) of some histories; returns each one's scores, (users, num_books + 1) float."""

Scorer = Callable[[Sequences], Scores]
"""Takes the histories of all users; returns the Scores function that scores books for some of them."""

Scorers = Callable[[Sequences], Callable[[np.ndarray], Iterable[Tensor]]]
"""Several Scorers that share work: the function that it returns gives the scores of each."""


class Ranks(NamedTuple):
    """The number of books that rank at or above each user's true book, (users,) int64; 0 is best."""

    sampled: np.ndarray  # among the user's negatives
    full: np.ndarray  # among all books outside the history


def summary(ranks: Ranks, k: int) -> dict[str, dict[str, float]]:
    """Return the metrics at cutoff k, by the list (sampled or full) and the name of the metric."""
    return {"sampled": metrics.summary(ranks.sampled, k), "full": metrics.summary(ranks.full, k)}


def users_at_a_time(device: torch.device, on_cpu: int = USERS_PER_BATCH) -> int:
    """Return the number of users to compute together: what fits in a processor's cache, or fills a GPU."""
    return on_cpu if device.type == "cpu" else USERS_ON_GPU


def rank(held_out: HeldOut, scorer: Scorer, world: World = ALONE, device: torch.device = CPU) -> Ranks:
    """Return the ranks by one scorer, as `rank_each` does."""

    def alone(histories: Sequences) -> Callable[[np.ndarray], Iterable[Tensor]]:
        score = scorer(histories)
        return lambda users: [score(users)]

    (ranks,) = rank_each(held_out, alone, 1, world, device)
    return ranks


def rank_each(
    held_out: HeldOut, scorers: Scorers, number: int, world: World = ALONE, device: torch.device = CPU
) -> list[Ranks]:
    """Return the ranks of every user's true book by each of `number` scorers; ties count against the book.

    The scorers compute on `device`. Several processes divide the batches. Each returns the ranks of all users, the same
    as with one process.

    Raises:
        UserError: a score is not finite.

    """
    score = scorers(held_out.histories)
    users = np.arange(len(held_out.users))
    at_a_time = users_at_a_time(device)
    batches = [users[start : start + at_a_time] for start in range(0, len(users), at_a_time)]
    ranks = torch.zeros(number, 2, len(users), dtype=torch.int64)
    for batch in world.every(batches):
        for of_scorer, scores in zip(ranks, score(batch), strict=True):
            of_scorer[:, batch] = _rank_batch(held_out, batch, scores)
    ranks = world.sum(ranks)
    if (ranks == NOT_FINITE).any():  # checked after the sum, so that all processes stop for the same reason
        raise UserError("a score of the model is not finite; lower train.lr in params.yaml and train again")
    return [Ranks(*of_scorer) for of_scorer in ranks.numpy()]


def read_books(held_out: HeldOut, users: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the rows and columns of the scores of `users` that belong to books in their histories."""
    read = [held_out.histories[user] for user in users]
    rows = np.repeat(np.arange(len(users)), [len(books) for books in read])
    return torch.from_numpy(rows), torch.from_numpy(np.concatenate(read)).long()


def _rank_batch(held_out: HeldOut, users: np.ndarray, scores: Tensor) -> Tensor:
    """Return the sampled and the full ranks, (2, batch) int64 on the CPU; NOT_FINITE if any score is not finite."""
    device = scores.device
    if not torch.isfinite(scores.sum(1)).all():  # one pass: a finite sum means finite scores
        return torch.full((2, len(users)), NOT_FINITE)
    true_books = torch.from_numpy(held_out.true_books[users]).to(device).long()[:, None]  # (batch, 1)
    negatives = torch.from_numpy(held_out.negatives[users]).to(device).long()  # (batch, negatives)
    true_scores = scores.gather(1, true_books)  # (batch, 1)
    sampled = _outranking(scores.gather(1, negatives), true_scores).sum(1)  # (batch,)

    outranks = _outranking(scores, true_scores)  # (batch, num_books + 1)
    outranks[:, 0] = 0
    outranks[read_books(held_out, users)] = 0
    outranks.scatter_(1, true_books, 0)  # the true book, re-read or not, never outranks itself
    return torch.stack([sampled, outranks.sum(1)]).long().cpu()


def _outranking(scores: Tensor, true_scores: Tensor) -> Tensor:
    """Return 1 where a score is at least its row's true score (batch, 1), else 0, in the shape and dtype of `scores`.

    Comparing and summing floats is three times faster than bools, and float32 sums are exact up to 2 ** 24 books.
    """
    return torch.ge(scores, true_scores, out=torch.empty_like(scores))
