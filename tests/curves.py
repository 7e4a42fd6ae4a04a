"""Prints the losses of some steps of every objective, as JSON: python tests/curves.py NUMBER_OF_PROCESSES."""

import json
import sys

import numpy as np
import torch
from conftest import sequences, train_params, training_set

from sasrec.model.params import SasrecParams
from sasrec.runtime import launch
from sasrec.runtime.world import ALONE, World
from sasrec.training import loop, step
from sasrec.training.params import TrainParams

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
    "clipped": {"clip_norm": 0.1, "weight_decay": 0.1},
}
# The first of several processes has nothing of a batch of one row.
CURVES = OBJECTIVES | {"one_row": {"loss": "softmax", "batch_size": 1}}
NUM_STEPS = 15


def params_of(objective: str, batch_size: int = 16) -> TrainParams:
    """The params of an objective, of `batch_size` users a step where it does not say otherwise."""
    return train_params(**{"batch_size": batch_size, "lr": 0.01, **CURVES[objective]})


def curve(objective: str, world: World = ALONE) -> list[float]:
    """The loss of each step, which every process must ask for."""
    state = step.start(TRAIN, params_of(objective), SASREC, CPU)
    take_step = loop.step_function(state, TRAIN, world)
    return [world.mean(take_step()).item() for _ in range(NUM_STEPS)]


def main() -> None:
    """Take the steps with as many processes as the command line says."""
    torch.set_num_threads(1)
    world = launch.world_of(int(sys.argv[1]))
    with launch.connected(world, CPU):
        curves = {objective: curve(objective, world) for objective in CURVES}
    if world.is_main:
        print(json.dumps(curves))


if __name__ == "__main__":
    main()
