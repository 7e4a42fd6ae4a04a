"""Adds what counting knows to what the model has learnt.

It is a product of experts (Hinton 2002): adding scores multiplies probabilities, each to the power of its weight. What
normalises them is the same for all books of a user and is left out.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sasrec.evaluation.ranking import Ranks, Scorer, Scorers, Scores
from sasrec.model.autoencoder import Autoencoder
from sasrec.model.sasrec import HybridWeights, Sasrec
from sasrec.split.sequences import Sequences
from sasrec.split.transitions import Transitions

SMOOTHING = 1e-3  # added to each book's transitions, so that a book without any has a logarithm
DECAY = 0.98  # the weight of a book in the autoencoder's history relative to the next one
# To choose from; 0 leaves the expert out.
TRANSITION_WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
AUTOENCODER_WEIGHTS = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0)
PAIRS = tuple(HybridWeights(*pair) for pair in itertools.product(TRANSITION_WEIGHTS, AUTOENCODER_WEIGHTS))


def joined(model: Scorer, expert: Scorer, weight: float) -> Scorer:
    """Return the scorer that adds the scores of `expert`, times `weight`, to those of `model`; at weight 0, `model`."""
    if weight == 0:
        return model

    def score(histories: Sequences) -> Scores:
        of_model, of_expert = model(histories), expert(histories)
        return lambda users: _added(of_model(users), of_expert(users), weight)

    return score


def by_all(by_model: Scorer, model: Sasrec, transitions: Transitions, weights: HybridWeights) -> Scorer:
    """Return the hybrid: `by_model` joined with the item transitions and the autoencoder, by their weights."""
    counted = by_transitions(transitions, model.item_embedding.weight.device)
    by_both = joined(by_model, counted, weights.transitions)
    return joined(by_both, by_autoencoder(model.autoencoder), weights.autoencoder)


def by_transitions(transitions: Transitions, device: torch.device) -> Scorer:
    """Return the scorer by log(t + SMOOTHING), with t the weights of the item transitions."""

    def score(histories: Sequences) -> Scores:
        def score_users(users: np.ndarray) -> Tensor:
            counted = np.stack([transitions.score(histories[user]) for user in users])  # (users, num_books + 1) float64
            return torch.from_numpy(counted).float().to(device).add_(SMOOTHING).log_()

        return score_users

    return score


def by_autoencoder(autoencoder: Autoencoder) -> Scorer:
    """Return the scorer by the linear autoencoder.

    Book b scores the sum of DECAY^age * weight[rows[a], b] over the books a of the history; the latest has age 0.
    """
    weight, row_of = autoencoder.weight, autoencoder.rows.cpu().numpy()

    def score(histories: Sequences) -> Scores:
        def score_users(users: np.ndarray) -> Tensor:
            of_users = _rows(row_of, [histories[user] for user in users])
            rows, starts, decays = (torch.from_numpy(each).to(weight.device) for each in of_users)
            # (users, num_books + 1)
            return F.embedding_bag(rows, weight, starts, mode="sum", per_sample_weights=decays)

        return score_users

    return score


def _rows(row_of: np.ndarray, histories: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the autoencoder's rows of all histories, latest first, where each history starts, and each row's decay."""
    lengths = np.array([len(history) for history in histories])
    # Products in turn, because a power's last bit depends on the processor.
    by_age = np.multiply.accumulate(np.r_[1.0, np.full(lengths.max(), DECAY)]).astype(np.float32)
    rows = np.concatenate([row_of[history[::-1]] for history in histories])
    decays = np.concatenate([by_age[:length] for length in lengths])
    has_row = np.flatnonzero(rows >= 0)
    starts = np.searchsorted(has_row, np.cumsum(lengths) - lengths)
    return rows[has_row], starts, decays[has_row]


def choose_weights(
    by_model: Scorer,
    counted: Scorer,
    linear: Scorer,
    pairs: Sequence[HybridWeights],
    rank_each: Callable[[Scorers, int], list[Ranks]],
    value: Callable[[Ranks], float],
) -> tuple[HybridWeights, Ranks]:
    """Return the one of `pairs` whose hybrid has ranks of the highest `value`, and those; the first of equals.

    `counted` scores by the item transitions, `linear` by the autoencoder, and `rank_each` is that of `ranking`. One
    weight after the other is not enough: much of what each expert knows, the other knows, too.
    """

    def by_each(histories: Sequences) -> Callable[[np.ndarray], Iterable[Tensor]]:
        of_each = [scorer(histories) for scorer in (by_model, counted, linear)]

        def score_users(users: np.ndarray) -> Iterator[Tensor]:
            # Once for all pairs, and in one layout: to add tensors of two layouts takes five times as long.
            scores, counts, linear_scores = [score(users).contiguous() for score in of_each]
            for weight, of_weight in itertools.groupby(pairs, lambda pair: pair.transitions):
                both = _added(scores, counts, weight)
                for pair in of_weight:
                    yield _added(both, linear_scores, pair.autoencoder)

        return score_users

    ranks = rank_each(by_each, len(pairs))
    return max(zip(pairs, ranks, strict=True), key=lambda pair: value(pair[1]))


def _added(scores: Tensor, change: Tensor, weight: float) -> Tensor:
    """Return the sum that `joined` scores by."""
    return scores.add(change, alpha=weight) if weight else scores
