"""Writes the network as an ONNX graph if onnxruntime reproduces PyTorch's scores."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sasrec.core.errors import UserError

NAME = "sasrec.onnx"
TOLERANCE = 1e-4  # the largest difference of a score; float32 sums in another order differ by about 1e-6


def main(words: Sequence[str]) -> None:
    """Write the graph.

    Raises:
        UserError: the model cannot be used, or a score of onnxruntime differs from PyTorch's by more than TOLERANCE.

    """
    parser = argparse.ArgumentParser(
        prog="sasrec export",
        description="Writes the network as an ONNX graph that carries the ids of its books. The graph is the network "
        "alone, without what the hybrid adds.",
    )
    parser.add_argument("--model", type=Path, default=Path("models"), metavar="FOLDER", help="of the model (models)")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"default: {NAME} beside the model's folder")
    asked = parser.parse_args(words)

    from sasrec.io import files
    from sasrec.runtime import cores, device
    from sasrec.serving import model_folder, onnx_model

    folder = model_folder.find(asked.model)
    model = model_folder.load(folder)
    output = asked.output or folder.parent / NAME
    device.use("cpu", cores.available())
    with files.atomic_write(output) as partial:
        onnx_model.write(partial, model)
        found = onnx_model.largest_difference(partial, model)
        if not found <= TOLERANCE:
            raise UserError(
                f"{output}: not written: a score of onnxruntime differs from PyTorch's by {found:.3g}, more than "
                f"{TOLERANCE}; install the versions of constraints.txt"
            )
    print(
        f"{output}: the network alone, without what the hybrid adds; its scores after {onnx_model.NUM_HISTORIES} "
        f"made-up histories are PyTorch's within {found:.1e}"
    )
