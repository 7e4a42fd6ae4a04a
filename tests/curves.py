"""Prints the losses of some steps of every objective, as JSON: python tests/curves.py NUMBER_OF_PROCESSES."""

import json
import sys

import numpy as np
import torch
from conftest import sequences, train_params, training_set

import train_gpu
from sasrec import launch, training
from sasrec.model import SasrecParams
from sasrec.processes import ALONE, Share

CPU = torch.device("cpu")
SASREC = SasrecParams(
    max_len=8, hidden_units=16, num_heads=2, num_layers=2, dropout_rate=0.3, norm_first=False, init_std=0.02
)
RNG = np.random.default_rng(0)
TRAIN = training_set(sequences(*(RNG.permutation(60)[:length] + 1 for length in range(2, 40))), num_books=60)
SHARED = {"loss": "sampled_softmax", "num_negatives": 20}
OBJECTIVES = {
    "bce": {"loss": "bce"},
    "gbce": {"loss": "gbce", "num_negatives": 3},
    "uniform": SHARED,
    "in_batch": SHARED | {"negatives": "in_batch"},
    "softmax": {"loss": "softmax"},
    "clipped": {"clip_norm": 0.1, "weight_decay": 0.1, "schedule": "cosine", "warmup_steps": 5},
}
STEPS = 30


def curve(objective: str, share: Share = ALONE) -> list[float]:
    """The loss of each step, which every process must ask for."""
    params = train_params(batch_size=16, lr=0.01, **OBJECTIVES[objective])
    state = training.start(TRAIN, params, SASREC, CPU)
    take_step = train_gpu.step_taker(state, TRAIN, share)
    return [share.mean(take_step()).item() for _ in range(STEPS)]


def main() -> None:
    """Take the steps with as many processes as the command line says."""
    torch.set_num_threads(1)
    share = launch.share_of(int(sys.argv[1]))
    with launch.connected(share, CPU):
        curves = {objective: curve(objective, share) for objective in OBJECTIVES}
    if share.is_first:
        print(json.dumps(curves))


if __name__ == "__main__":
    main()
