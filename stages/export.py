"""Writes the trained model as models/sasrec.onnx, once onnxruntime gives PyTorch's scores for the held-out readers."""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import os
from importlib.util import find_spec
from pathlib import Path

from sasrec import reproducibility

os.environ.update(reproducibility.environment())  # before torch is imported, which reads them once

from sasrec import device, errors, holdout, outputs, params, train_params
from sasrec.recommender import Recommender

MODELS = Path("models")
TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
ONNX = Path("models/sasrec.onnx")
TOLERANCE = 1e-4  # of a score: float32 sums in another order differ by about 1e-6


def main() -> None:
    """Read the params, the model and the held-out readers; write the graph.

    Raises:
        UserError: the packages are missing, or onnxruntime's scores are not PyTorch's.

    """
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise errors.UserError(
            "stages/export.py needs onnx and onnxruntime; run `pip install -c constraints.txt -e '.[export]'`"
        )
    from sasrec import onnx_model

    evaluation = params.load("evaluation", holdout.EvaluationParams)
    train = params.load("train", train_params.TrainParams)
    errors.require(TRAIN, EVALUATION)
    device.use("cpu", train.num_threads)
    network = Recommender.load(MODELS).model
    held_out = holdout.load_held_out(EVALUATION, holdout.load_training_set(TRAIN))
    with outputs.whole(ONNX) as partial:
        onnx_model.write(partial, network, padding=evaluation.padding)
        found = onnx_model.largest_difference(partial, network, held_out.histories, padding=evaluation.padding)
        if not found <= TOLERANCE:
            raise errors.UserError(
                f"{ONNX}: not written: a score of onnxruntime differs from PyTorch's by {found:.3g}, more than "
                f"{TOLERANCE}; install the versions of constraints.txt"
            )
    print(f"{ONNX}: the scores for {len(held_out.users)} held-out readers are PyTorch's within {found:.1e}")


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
