"""Shows where the time of a training step goes, by operator, with params.yaml and the training set of `dvc repro`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "stages"))

from sasrec import reproducibility

os.environ.update(reproducibility.environment())  # before torch is imported, which reads them once

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from sasrec import device, errors, holdout, model, params, sampling, training
from sasrec.train_params import TrainParams

TRAIN = Path("data/split/train.safetensors")
WARM_UP_STEPS, STEPS = 5, 20
NUM_ROWS = 25  # operators shown


def main() -> None:
    """Take some steps under PyTorch's profiler and print its table."""
    sasrec = params.load("sasrec", model.SasrecParams)
    section = params.load("train", TrainParams)
    errors.require(TRAIN)
    where = device.use(section.device, section.num_threads)
    train = holdout.load_training_set(TRAIN)
    state = training.start(train, section, sasrec, where)
    sampler = sampling.PackedSampler(train, training.sizes(section, sasrec.max_len))
    objective = training.Objective(state.model, train, section)
    for _ in range(WARM_UP_STEPS):
        training.step(state, sampler.draw(state.batch_rng), objective)
    on_cuda = [ProfilerActivity.CUDA] if where.type == "cuda" else []
    with profile(activities=[ProfilerActivity.CPU, *on_cuda]) as profiler:
        for _ in range(STEPS):
            with record_function("sampling"):
                batch = sampler.draw(state.batch_rng)
            training.step(state, batch, objective)
    by_time = "self_cuda_time_total" if on_cuda else "self_cpu_time_total"
    print(f"{STEPS} steps, train.reproducibility {section.reproducibility}, {where}, {torch.get_num_threads()} threads")
    print(profiler.key_averages().table(sort_by=by_time, row_limit=NUM_ROWS, max_name_column_width=40))


if __name__ == "__main__":
    errors.run(main)
