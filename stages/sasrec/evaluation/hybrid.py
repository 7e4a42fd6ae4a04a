"""Adds what counting knows to what the model has learnt."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sasrec.evaluation.ranking import Ranks, Scorer, Scores
from sasrec.split.sequences import Sequences
from sasrec.split.transitions import Transitions

SMOOTHING = 1e-3  # added to each book's transitions, so that a book without any has a logarithm
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # to choose from; 0 is the model alone


def by_both(model: Scorer, transitions: Transitions, weight: float) -> Scorer:
    """Return the scorer that adds the log of the item transitions, times `weight`, to the model's logits.

    It is a product of experts (Hinton 2002): the probabilities softmax(logits) and (t + SMOOTHING) / sum, with t the
    transitions' weights, are multiplied, the second to the power of `weight`. What normalises either is the same for
    all books of a user and is left out. Weight 0 is the model alone.
    """
    if weight == 0:
        return model

    def score(histories: Sequences) -> Scores:
        of_model = model(histories)

        def score_users(users: np.ndarray) -> Tensor:
            logits = of_model(users)  # (len(users), num_books + 1)
            counted = np.stack([transitions.score(histories[user]) for user in users])  # the same shape, float64
            logs = torch.from_numpy(counted).float().to(logits.device).add_(SMOOTHING).log_()
            return logits.add(logs, alpha=weight)

        return score_users

    return score


def choose_weight(
    model: Scorer, transitions: Transitions, rank: Callable[[Scorer], Ranks], value: Callable[[Ranks], float]
) -> tuple[float, Ranks]:
    """Return the weight of WEIGHTS whose ranks, given by `rank`, have the highest `value`, and those ranks.

    The smallest of equals is chosen.
    """
    ranks = {weight: rank(by_both(model, transitions, weight)) for weight in WEIGHTS}
    weight = max(WEIGHTS, key=lambda each: value(ranks[each]))
    return weight, ranks[weight]
