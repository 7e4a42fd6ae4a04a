"""Estimates the memory of a ranking."""

import torch

from sasrec.evaluation import model_scorer, ranking
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import num_weights
from sasrec.runtime.memory import FLOAT_BYTES
from sasrec.split.sequences import Sequences


def of_ranking(params: SasrecParams, histories: Sequences, num_books: int, device: torch.device) -> dict[str, int]:
    """Return a lower bound on the bytes for the longest histories, by the param that they grow with most."""
    at_a_time = ranking.users_at_a_time(device, model_scorer.USERS_PER_BATCH)
    rows = (len(histories) - 1) % at_a_time + 1  # in the last batch, which has the longest histories
    length = int(min(histories.lengths.max(), params.max_len))
    squares = 1 + (params.num_heads if params.num_layers > 1 else 0)  # the mask, and the scores of a block
    return {
        "sasrec.max_len": rows * length**2 * squares * FLOAT_BYTES,
        "sasrec.hidden_units": num_weights(params, num_books) * FLOAT_BYTES,
    }
