"""Ranks each reader's true book, among its negatives and in the whole catalogue, and averages over readers."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sasrec.errors import UserError
from sasrec.holdout import HeldOut
from sasrec.processes import ALONE, Share
from sasrec.sequences import Sequences

DECIMALS = 8
NOT_FINITE = -1  # in place of a rank
READERS_PER_BATCH = 32  # of 25,000 books' scores, 3 MB: they stay in the processor's cache
READERS_ON_GPU = 1024  # one product for all readers of params.yaml
CPU = torch.device("cpu")

Scores = Callable[[np.ndarray], Tensor]
"""Takes the numbers of some readers; returns the score of every book, (len(readers), num_books + 1) float."""

Scorer = Callable[[Sequences], Scores]
"""Takes the histories of all readers, and returns what scores books for some of them at a time."""


class Ranks(NamedTuple):
    """How many books rank at or above each reader's true book, (readers,) int64; 0 is best."""

    sampled: np.ndarray  # among the reader's negatives
    full: np.ndarray  # among all books, the history left out


def readers_at_a_time(device: torch.device, on_cpu: int = READERS_PER_BATCH) -> int:
    """Return how many readers to compute together: as many as fit into a processor's cache, or fill a GPU."""
    return on_cpu if device.type == "cpu" else READERS_ON_GPU


def rank(held_out: HeldOut, scorer: Scorer, share: Share = ALONE, device: torch.device = CPU) -> Ranks:
    """Rank every reader's true book by `scorer`, which computes on `device`; an equal score counts against it.

    Several processes divide the batches, and each returns the ranks of all readers, which are those of one process.

    Raises:
        UserError: a score is not finite.

    """
    score = scorer(held_out.histories)
    readers = np.arange(len(held_out.users))
    at_a_time = readers_at_a_time(device)
    batches = [readers[start : start + at_a_time] for start in range(0, len(readers), at_a_time)]
    ranks = torch.zeros(2, len(readers), dtype=torch.int64)
    for batch in share.every(batches):
        ranks[:, batch] = _rank_batch(held_out, batch, score(batch))
    sampled, full = share.sum(ranks).numpy()
    if (sampled == NOT_FINITE).any():  # found here, so that all processes stop for the same reason
        raise UserError("models/sasrec.safetensors: a score is not finite; lower train.lr and train again")
    return Ranks(sampled, full)


def _rank_batch(held_out: HeldOut, readers: np.ndarray, scores: Tensor) -> Tensor:
    """Return the two ranks of each reader, (2, readers) int64 on the CPU, NOT_FINITE where a score is not finite."""
    device = scores.device
    if not torch.isfinite(scores.sum(1)).all():  # one pass; a sum is finite only where every score is
        return torch.full((2, len(readers)), NOT_FINITE)
    true_books = torch.from_numpy(held_out.true_books[readers]).to(device).long()[:, None]  # (batch, 1)
    negatives = torch.from_numpy(held_out.negatives[readers]).to(device).long()  # (batch, negatives)
    true_scores = scores.gather(1, true_books)
    sampled = _outranking(scores.gather(1, negatives), true_scores).sum(1)

    offsets = held_out.histories.offsets
    read = [held_out.histories.items[offsets[reader] : offsets[reader + 1]] for reader in readers]
    rows = np.repeat(np.arange(len(readers)), [len(books) for books in read])
    outranks = _outranking(scores, true_scores)
    outranks[:, 0] = 0
    outranks[torch.from_numpy(rows), torch.from_numpy(np.concatenate(read)).long()] = 0
    outranks.scatter_(1, true_books, 0)  # it does not outrank itself, a re-read or not
    return torch.stack([sampled, outranks.sum(1)]).long().cpu()


def _outranking(scores: Tensor, true_scores: Tensor) -> Tensor:
    """Return 1 where a score is not below its row's true one, (batch, 1), else 0: float32, of the shape of `scores`.

    Floats are compared and summed three times faster than flags, and their sum is exact up to 2 ** 24 books.
    """
    return torch.ge(scores, true_scores, out=torch.empty_like(scores))


def hit_rates(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return 1 where the true book is among the first k, else 0, (readers,) float64."""
    return (ranks < k).astype(np.float64)


def ndcgs(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / log2(rank + 2) where the true book is among the first k, else 0, (readers,) float64."""
    return np.where(ranks < k, 1 / np.log2(ranks + 2), 0)


def summary(ranks: np.ndarray, k: int) -> dict[str, float]:
    """Return HR@k and NDCG@k, each with the half-width of its 95 % confidence interval over readers.

    Rounded to DECIMALS: numpy's sums and logarithms may differ in the last bit between processors.
    """
    means = {}
    for name, values in ((f"HR@{k}", hit_rates(ranks, k)), (f"NDCG@{k}", ndcgs(ranks, k))):
        means[name] = round(float(values.mean()), DECIMALS)
        means[f"{name}_half_width"] = round(float(1.96 * values.std() / np.sqrt(len(values))), DECIMALS)
    return means
