"""Refuses, before any work, what cannot fit into the memory: the system would end the process without a word.

What is needed is a lower bound: tensors that exist at the same time, and nothing of what libraries add. So what fits is
never refused.
"""

import math
import os
from pathlib import Path

import numpy as np
import torch

from sasrec import ranking, scorers
from sasrec.errors import UserError
from sasrec.model import SasrecParams
from sasrec.sequences import Sequences
from sasrec.train_params import TrainParams

FLOAT_BYTES = 4
CGROUP = Path("/sys/fs/cgroup")


def of_training(
    sasrec: SasrecParams, params: TrainParams, histories: Sequences, num_books: int, device: torch.device
) -> dict[str, int]:
    """Return the bytes that a training step takes, by the key of params.yaml that they grow with most."""
    max_len, width = sasrec.max_len, sasrec.hidden_units
    lengths = np.clip(histories.lengths - 1, 0, max_len)
    # On the CPU short histories share a row; half the mean, because the readers are drawn at random.
    packed = params.batch_size * float(lengths.mean()) / 2 / max_len
    rows = max(1, math.ceil(packed)) if device.type == "cpu" else params.batch_size
    rows = max(1, rows // params.processes)
    float_bytes = 2 if params.precision == "bfloat16" else FLOAT_BYTES
    # The mask, and of each layer the weights of attention before and after dropout.
    squares = 1 + sasrec.num_layers * sasrec.num_heads * (2 if sasrec.dropout_rate else 1)
    # Of each place: its book, the candidates, and of each layer at least queries, keys, values and three results.
    vectors = 1 + 6 * sasrec.num_layers
    num_weights = _num_weights(sasrec, num_books)
    return {
        "sasrec.max_len": rows * max_len**2 * squares * float_bytes,
        "sasrec.hidden_units": 3 * num_weights * FLOAT_BYTES + rows * max_len * width * vectors * float_bytes,
        "train.num_negatives": _of_negatives(params, rows * max_len, width, float_bytes),
    }


def of_ranking(sasrec: SasrecParams, histories: Sequences, num_books: int, device: torch.device) -> dict[str, int]:
    """Return the bytes that the features of the longest histories take, by key as `of_training`."""
    at_a_time = ranking.readers_at_a_time(device, scorers.READERS_PER_BATCH)
    rows = (len(histories) - 1) % at_a_time + 1  # of the last batch, which has the longest ones
    length = int(min(histories.lengths.max(), sasrec.max_len))
    squares = 1 + (sasrec.num_heads if sasrec.num_layers > 1 else 0)  # the mask and the scores of a block
    return {
        "sasrec.max_len": rows * length**2 * squares * FLOAT_BYTES,
        "sasrec.hidden_units": _num_weights(sasrec, num_books) * FLOAT_BYTES,
    }


def require(what: str, needed: dict[str, int], device: torch.device) -> None:
    """Raise UserError where the bytes that `what` needs, by key, are more than the memory of `device`."""
    total, found = sum(needed.values()), _num_bytes(device)
    if total > found:
        key = max(needed, key=lambda key: needed[key])
        where = "this GPU" if device.type == "cuda" else "this machine"
        raise UserError(
            f"params.yaml: {what} takes at least {total / 1e9:.1f} GB of memory, and {where} has {found / 1e9:.1f} GB; "
            f"lower {key}"
        )


def _num_weights(sasrec: SasrecParams, num_books: int) -> int:
    width = sasrec.hidden_units
    return (num_books + 1 + sasrec.max_len) * width + sasrec.num_layers * 6 * width**2


def _of_negatives(params: TrainParams, num_places: int, width: int, float_bytes: int) -> int:
    if params.loss == "softmax":
        return 0
    if params.loss == "sampled_softmax":
        return num_places * params.num_negatives * float_bytes
    return num_places * params.num_negatives * width * FLOAT_BYTES  # their embeddings


def _num_bytes(device: torch.device) -> int:
    """Return the memory of a GPU, else what this process may have at most, with what may be swapped out."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits()]) + _swap()


def _limits() -> list[int]:
    """Return the limits of this process's control groups, of either version, in bytes."""
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:  # not Linux
        return []
    folders = [CGROUP / ("memory" if "memory" in kinds else "") / name.lstrip("/") for _, kinds, name in groups]
    places = {place for folder in folders for place in (folder, *folder.parents) if place.is_relative_to(CGROUP)}
    texts = [
        file.read_text().strip()
        for place in places
        for file in (place / "memory.max", place / "memory.limit_in_bytes")
        if file.is_file()
    ]
    return [int(text) for text in texts if text != "max"]


def _swap() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("SwapTotal"))
