"""Writes models/sasrec.onnx if onnxruntime reproduces PyTorch's scores for the held-out users."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import os
from importlib.util import find_spec
from pathlib import Path

from sasrec.runtime import reproducibility

os.environ.update(reproducibility.environment(Path("params.yaml")))  # before torch is imported, which reads them once

from sasrec.core import errors, params
from sasrec.io import files
from sasrec.runtime import device
from sasrec.serving.recommender import Recommender
from sasrec.split import datasets
from sasrec.split.params import EvaluationParams
from sasrec.training.params import TrainParams

MODELS = Path("models")
PARAMS = Path("params.yaml")
TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
ONNX = Path("models/sasrec.onnx")
TOLERANCE = 1e-4  # the largest difference of a score; float32 sums in another order differ by about 1e-6


def main() -> None:
    """Read the params, the model and the held-out users; write the graph.

    Raises:
        UserError: a package is missing, or a score of onnxruntime differs from PyTorch's by more than TOLERANCE.

    """
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise errors.UserError(
            "stages/export.py needs onnx and onnxruntime; run `pip install -c constraints.txt -e '.[export]'`"
        )
    from sasrec.serving import onnx_model

    evaluation_params = params.load(PARAMS, "evaluation", EvaluationParams)
    train_params = params.load(PARAMS, "train", TrainParams)
    errors.require(TRAIN, EVALUATION)
    device.use("cpu", train_params.num_threads)
    model = Recommender.load(MODELS).model
    held_out = datasets.load_held_out(EVALUATION, datasets.load_training_set(TRAIN))
    with files.atomic_write(ONNX) as partial:
        onnx_model.write(partial, model, padding=evaluation_params.padding)
        found = onnx_model.largest_difference(partial, model, held_out.histories, padding=evaluation_params.padding)
        if not found <= TOLERANCE:
            raise errors.UserError(
                f"{ONNX}: not written: a score of onnxruntime differs from PyTorch's by {found:.3g}, more than "
                f"{TOLERANCE}; install the versions of constraints.txt"
            )
    print(
        f"{ONNX}: the network alone, without item transitions; its scores for {len(held_out.users)} held-out users are "
        f"PyTorch's within {found:.1e}"
    )


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
