"""Scores books with the model."""

import numpy as np
import torch
from torch import Tensor

from sasrec.evaluation.ranking import Scorer, Scores, users_at_a_time
from sasrec.model import matmul
from sasrec.model.sasrec import Sasrec
from sasrec.runtime.world import ALONE, World
from sasrec.split.sequences import Sequences, last_books

USERS_PER_BATCH = 128  # on the CPU: their attention weights at 50 positions take 1.3 MB, which fit in the cache


def by_model(model: Sasrec, world: World = ALONE, *, padding: bool = True) -> Scorer:
    """Return the scorer that gives each book its logit after the user's latest max_len books.

    With `padding` the last book has the last position, as in training. Without it the first book has the first
    position, as in the notebook, so that a short history meets positions it never had in training. Several processes
    divide the histories.
    """

    def score(histories: Sequences) -> Scores:
        features = encode_histories(model, histories, world, padding=padding)

        @torch.inference_mode()
        def score_users(users: np.ndarray) -> Tensor:
            batch = features[torch.from_numpy(users).to(features.device)]  # (batch, hidden_units)
            return matmul.linear(model.item_embedding.weight, batch).T  # (batch, num_books + 1)

        return score_users

    return score


@torch.inference_mode()
def encode_histories(model: Sasrec, histories: Sequences, world: World = ALONE, *, padding: bool = True) -> Tensor:
    """Return features that predict the book after each history, (len(histories), hidden_units), on the model's device.

    Histories of similar length share a batch, so that little padding is computed. An empty history is one position of
    padding. Several processes divide the batches, and all return the sum: each history has one process's features, and
    adding the others' zeros changes no value.
    """
    device = model.item_embedding.weight.device
    max_len = model.params.max_len
    lengths = np.clip(histories.lengths, 1, max_len)
    features = torch.zeros(len(histories), model.params.hidden_units, device=device)
    by_length = np.argsort(lengths, kind="stable")
    at_a_time = users_at_a_time(device, USERS_PER_BATCH)
    batches = np.split(by_length, range(at_a_time, len(by_length), at_a_time))
    for users in world.every(batches):
        length = lengths[users[-1]]
        history = torch.from_numpy(last_books(histories, users, length)).to(device)  # (batch, length)
        positions = torch.arange(max_len - length, max_len, device=device).expand_as(history)  # (batch, length)
        if not padding:
            shift = torch.from_numpy(max_len - lengths[users]).to(device)  # (batch,)
            positions = (positions - shift[:, None]).clamp(min=0)
        features[torch.from_numpy(users).to(device)] = model(history, positions)
    return world.sum(features)
