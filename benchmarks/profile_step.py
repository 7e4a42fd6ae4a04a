"""Prints the time of each operator of a training step, with params.yaml and the training set of `dvc repro`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "stages"))

from sasrec.runtime import reproducibility

os.environ.update(reproducibility.environment(Path("params.yaml")))  # before torch is imported, which reads them once

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from sasrec.core import errors, params
from sasrec.model.params import SasrecParams
from sasrec.runtime import cores, device
from sasrec.split import datasets
from sasrec.training import sampling, step, training_loss
from sasrec.training.params import TrainParams

PARAMS = Path("params.yaml")
TRAIN = Path("data/split/train.safetensors")
WARM_UP_STEPS, STEPS = 5, 20
NUM_ROWS = 25  # operators in the table


def main() -> None:
    """Run some steps under PyTorch's profiler and print its table."""
    sasrec_params = params.load(PARAMS, "sasrec", SasrecParams)
    train_params = params.load(PARAMS, "train", TrainParams)
    errors.require(TRAIN)
    where = device.use(train_params.device, cores.num_threads(PARAMS))
    train = datasets.load_training_set(TRAIN)
    state = step.start(train, train_params, sasrec_params, where)
    sampler = sampling.PackedSampler(train, step.batch_spec(train_params, sasrec_params.max_len))
    loss = training_loss.TrainingLoss(state.model, train, train_params)
    for _ in range(WARM_UP_STEPS):
        step.step(state, sampler.draw(state.batch_rng), loss)
    on_cuda = [ProfilerActivity.CUDA] if where.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *on_cuda]) as profiler:
        for _ in range(STEPS):
            with record_function("sampling"):
                batch = sampler.draw(state.batch_rng)
            step.step(state, batch, loss)
    by_time = "self_cuda_time_total" if on_cuda else "self_cpu_time_total"
    print(
        f"{STEPS} steps, train.reproducibility {train_params.reproducibility}, {where}, "
        f"{torch.get_num_threads()} threads"
    )
    print(profiler.key_averages().table(sort_by=by_time, row_limit=NUM_ROWS, max_name_column_width=40))


if __name__ == "__main__":
    errors.run(main)
