"""Trains SASRec, on a GPU if there is one, and validates it after each epoch."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once()  # where Ctrl-C or SIGTERM comes during the imports

import os
from pathlib import Path

from sasrec.runtime import reproducibility

os.environ.update(reproducibility.environment(Path("params.yaml")))  # before torch is imported, which reads them once

import msgspec

from sasrec.core import cli, errors, params, run_record
from sasrec.evaluation import memory as ranking_memory
from sasrec.evaluation import metrics
from sasrec.io import files
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import Config, save_config, save_model
from sasrec.runtime import cores, device, launch, memory
from sasrec.split import datasets
from sasrec.training import autoencoder, checkpoint, loop, step
from sasrec.training import memory as training_memory
from sasrec.training.params import TrainParams

PARAMS = Path("params.yaml")
TRAIN = Path("data/split/train.safetensors")
VALIDATION = Path("data/split/validation.safetensors")
WEIGHTS = Path("models/sasrec.safetensors")
CONFIG = Path("models/sasrec.json")
METRICS = Path("metrics/train.json")
LOSS = Path("plots/loss.csv")
VALIDATION_CURVE = Path("plots/validation.csv")
LIVE = Path("dvclive")  # grows with each epoch, to watch the training
CHECKPOINTS = Path("checkpoints/train_gpu")  # no output of the stage, so that DVC keeps it between runs


def train_and_write() -> dict[str, object]:
    """Read the params and the data sets; train and validate; write the model and its metrics; describe the device."""
    sasrec_params = params.load(PARAMS, "sasrec", SasrecParams)
    train_params = params.load(PARAMS, "train", TrainParams)
    errors.require(TRAIN, VALIDATION)
    world = launch.world_of(train_params.processes)
    where = device.use(train_params.device, cores.num_threads(PARAMS), world)
    train = datasets.load_training_set(TRAIN)
    validation = datasets.load_held_out(VALIDATION, train)
    train_params.require_steps(train.num_users)
    needed = training_memory.of_training(sasrec_params, train_params, train.histories, train.num_books, where)
    memory.require("training", needed, where)
    needed = ranking_memory.of_ranking(sasrec_params, validation.histories, train.num_books, where)
    memory.require("validation", needed, where)
    state = step.start(train, train_params, sasrec_params, where)
    # The key leaves out the number of processes, because any number can resume from a checkpoint.
    alone = msgspec.structs.replace(train_params, processes=1)
    checkpoint_file = CHECKPOINTS / checkpoint.key([sasrec_params, alone], [TRAIN, VALIDATION], where)
    files.make_folders(checkpoint_file, WEIGHTS, METRICS, LOSS)
    with launch.connected(world, where):
        loop.train_epochs(state, train, validation, checkpoint_file, LIVE, world)
        loop.keep(state)
        autoencoder.fit(state.model.autoencoder, train.histories)
        hybrid = loop.choose_hybrid(state, train, validation, world)
    if world.is_main:
        write_outputs(state, Config(train.num_books, sasrec_params, hybrid.weights), hybrid)
        checkpoint.remove(checkpoint_file)
    return device.describe(where)


def write_outputs(state: step.TrainingState, config: Config, hybrid: loop.Hybrid) -> None:
    """Write the model of the epoch kept, its metrics and the curves."""
    with files.atomic_write(WEIGHTS) as partial:
        save_model(partial, state.model)
    with files.atomic_write(CONFIG) as partial:
        save_config(partial, config)
    files.write_json(METRICS, loop.summary(state, hybrid))
    files.write_csv(LOSS, ["step", "loss"], enumerate(state.losses, start=1))
    columns = [(ranked, name) for ranked in ("sampled", "full") for name in metrics.names(loop.VALIDATION_K)]
    rows = [[epoch, *(point[a][b] for a, b in columns)] for epoch, point in enumerate(state.curve, start=1)]
    files.write_csv(VALIDATION_CURVE, ["epoch", *(f"{ranked}_{name}" for ranked, name in columns)], rows)


def main() -> dict[str, object]:
    """Run the stage and describe the device; if memory runs out, raise a UserError that names the params to lower."""
    try:
        return train_and_write()
    except (MemoryError, RuntimeError) as error:
        if not errors.is_out_of_memory(error):
            raise
        raise errors.UserError(
            "params.yaml: training needs more memory than there is; lower train.batch_size, sasrec.max_len, "
            f"sasrec.hidden_units or train.num_negatives ({error})"
        ) from None


if __name__ == "__main__":
    cli.answer(__file__)
    errors.run(run_record.recorded(__file__, main))
