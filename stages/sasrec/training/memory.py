"""Estimates the memory of a training step."""

import math

import numpy as np
import torch

from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import num_weights
from sasrec.runtime.memory import FLOAT_BYTES
from sasrec.split.sequences import Sequences
from sasrec.training.params import LOSSES, TrainParams


def of_training(
    sasrec_params: SasrecParams, params: TrainParams, histories: Sequences, num_books: int, device: torch.device
) -> dict[str, int]:
    """Return a lower bound on the bytes of a training step, by the key of params.yaml that they grow with most."""
    max_len, width = sasrec_params.max_len, sasrec_params.hidden_units
    lengths = np.clip(histories.lengths - 1, 0, max_len)
    # On the CPU short histories share a row. Half the mean length, because the users are drawn at random.
    packed = params.batch_size * float(lengths.mean()) / 2 / max_len
    rows = max(1, math.ceil(packed)) if device.type == "cpu" else params.batch_size
    rows = max(1, rows // params.processes)
    float_bytes = 2 if params.precision == "bfloat16" else FLOAT_BYTES
    # The mask, and for each layer the attention weights before and after dropout.
    squares = 1 + sasrec_params.num_layers * sasrec_params.num_heads * (2 if sasrec_params.dropout_rate else 1)
    # For each position: its book, and for each layer at least query, key, value and three results.
    vectors = 1 + 6 * sasrec_params.num_layers
    weight_bytes = num_weights(sasrec_params, num_books) * FLOAT_BYTES
    return {
        "sasrec.max_len": rows * max_len**2 * squares * float_bytes,
        "sasrec.hidden_units": 3 * weight_bytes + rows * max_len * width * vectors * float_bytes,
        "train.num_negatives": _negative_bytes(params, rows * max_len, width, num_books, float_bytes),
    }


def _negative_bytes(params: TrainParams, num_positions: int, width: int, num_books: int, float_bytes: int) -> int:
    """Return the bytes of the negatives' logits, or of their embeddings if each position has its own."""
    kind = LOSSES[params.loss]
    if kind == "catalogue":
        return 0
    if kind == "shared":
        is_drawn = params.negatives == "in_batch" or params.num_negatives < num_books  # else every book counts once
        return num_positions * (params.num_negatives if is_drawn else num_books) * float_bytes
    return num_positions * params.num_negatives * width * FLOAT_BYTES  # autocast leaves their embeddings in float32
