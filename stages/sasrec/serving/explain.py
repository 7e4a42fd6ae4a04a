"""Explains recommendations: which of the latest books lead to each, and where the network looks."""

import numpy as np
import torch
from torch import Tensor

from sasrec.evaluation import model_scorer
from sasrec.model.sasrec import Sasrec
from sasrec.split.sequences import Sequences
from sasrec.split.transitions import DECAY, NUM_LATEST, Transitions


def contributions(transitions: Transitions, history: np.ndarray, books: np.ndarray) -> np.ndarray:
    """Return what each of the latest books adds to the transitions' score of each of `books`, (latest, books) float64.

    The latest book of `history`, which has one at least, comes first. The sum over the latest is `Transitions.score`.
    """
    latest = history[::-1][:NUM_LATEST]
    return np.stack([DECAY**back * transitions.score(latest[back : back + 1])[books] for back in range(len(latest))])


@torch.inference_mode()
def attention(network: Sasrec, history: np.ndarray, *, padding: bool) -> np.ndarray:
    """Return how much the last position of the last block attends to each of the latest books, (latest,), oldest first.

    It is the mean over the heads, and sums to 1. It does not depend on which book is ranked. A network without a block
    attends to nothing: (0,). The network must compute nothing else meanwhile.
    """
    if not (network.blocks and len(history)):
        return np.zeros(0)
    attending, taken = network.blocks[-1].attention, list[Tensor]()
    hook = attending.register_forward_pre_hook(lambda _module, inputs: taken.append(inputs[0]))
    try:
        model_scorer.encode_histories(network, Sequences(history, np.array([0, len(history)])), padding=padding)
    finally:
        hook.remove()
    query, key, _value = attending.query_key_value(taken[0][0]).chunk(3, dim=-1)  # (latest, hidden_units) each
    query = query[-1].view(attending.num_heads, -1)  # (heads, head_width)
    key = key.view(len(key), attending.num_heads, -1)  # (latest, heads, head_width)
    scores = (key * query).sum(-1) * query.shape[-1] ** -0.5  # (latest, heads)
    return scores.softmax(0).mean(1).cpu().numpy()
