"""Adds what counting knows to what the model has learnt.

It is a product of experts (Hinton 2002): adding scores multiplies probabilities, each to the power of its weight. What
normalises them is the same for all books of a user and is left out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sasrec.evaluation.ranking import Ranks, Scorer, Scorers, Scores
from sasrec.model import matmul
from sasrec.model.sasrec import HybridWeights, Sasrec
from sasrec.split.sequences import Sequences
from sasrec.split.transitions import Transitions

SMOOTHING = 1e-3  # added to each book's transitions, so that a book without any has a logarithm
DECAY = 0.98  # the weight of a book in the autoencoder's history relative to the next one
# To choose from; 0 leaves the expert out.
TRANSITION_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
AUTOENCODER_WEIGHTS = (0.0, 1.0, 2.0, 4.0, 8.0)


def joined(model: Scorer, expert: Scorer, weight: float) -> Scorer:
    """Return the scorer that adds the scores of `expert`, times `weight`, to those of `model`; at weight 0, `model`."""
    if weight == 0:
        return model

    def score(histories: Sequences) -> Scores:
        of_model, of_expert = model(histories), expert(histories)
        return lambda users: of_model(users).add(of_expert(users), alpha=weight)

    return score


def by_all(by_model: Scorer, model: Sasrec, transitions: Transitions, weights: HybridWeights) -> Scorer:
    """Return the hybrid: `by_model` joined with the item transitions and the autoencoder, by their weights."""
    counted = by_transitions(transitions, model.book_factors.device)
    by_both = joined(by_model, counted, weights.transitions)
    return joined(by_both, by_autoencoder(model.book_factors), weights.autoencoder)


def by_transitions(transitions: Transitions, device: torch.device) -> Scorer:
    """Return the scorer by log(t + SMOOTHING), with t the weights of the item transitions."""

    def score(histories: Sequences) -> Scores:
        def score_users(users: np.ndarray) -> Tensor:
            counted = np.stack([transitions.score(histories[user]) for user in users])  # (users, num_books + 1) float64
            return torch.from_numpy(counted).float().to(device).add_(SMOOTHING).log_()

        return score_users

    return score


def by_autoencoder(factors: Tensor) -> Scorer:
    """Return the scorer by a linear autoencoder with the `factors` F of each book, (num_books + 1, rank).

    Book b scores the sum of DECAY^age * (F[a] . F[b]) / (1 - F[b] . F[b]) over the books a of the history; the latest
    has age 0.
    """

    def score(histories: Sequences) -> Scores:
        decoder = factors / (1 - factors.square().sum(1, keepdim=True))  # (num_books + 1, rank)

        def score_users(users: np.ndarray) -> Tensor:
            encoded = _encode(factors, [histories[user] for user in users])  # (users, rank)
            return matmul.linear(decoder, encoded).T  # (users, num_books + 1)

        return score_users

    return score


def _encode(factors: Tensor, histories: Sequence[np.ndarray]) -> Tensor:
    """Return each history's sum of DECAY^age * F[a] over its books a, (histories, rank), on the device of `factors`."""
    lengths = np.array([len(history) for history in histories])
    # Products in turn, because a power's last bit depends on the processor.
    decays = np.multiply.accumulate(np.r_[1.0, np.full(lengths.max(), DECAY)])
    latest_first = np.concatenate([history[::-1] for history in histories]).astype(np.int64)
    by_age = np.concatenate([decays[:length] for length in lengths]).astype(np.float32)
    books, starts, weights = (
        torch.from_numpy(each).to(factors.device) for each in (latest_first, np.cumsum(lengths) - lengths, by_age)
    )
    return F.embedding_bag(books, factors, starts, mode="sum", per_sample_weights=weights)


def choose_weight(
    model: Scorer,
    expert: Scorer,
    weights: Sequence[float],
    rank_each: Callable[[Scorers, int], list[Ranks]],
    value: Callable[[Ranks], float],
) -> tuple[float, Ranks]:
    """Return the one of `weights` with which `joined` has ranks of the highest `value`, and those.

    `rank_each` is that of `ranking`. The smallest of equals is chosen.
    """

    def joined_by_each(histories: Sequences) -> Callable[[np.ndarray], Iterable[Tensor]]:
        of_model, of_expert = model(histories), expert(histories)

        def score_users(users: np.ndarray) -> Iterator[Tensor]:
            scores, change = of_model(users), of_expert(users)  # once for all weights
            return (scores.add(change, alpha=weight) if weight else scores for weight in weights)

        return score_users

    ranks = dict(zip(weights, rank_each(joined_by_each, len(weights)), strict=True))
    weight = max(weights, key=lambda each: value(ranks[each]))
    return weight, ranks[weight]
