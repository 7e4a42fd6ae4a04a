"""Turns a trained model into an ONNX graph, and measures how far onnxruntime's scores are from PyTorch's."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from sasrec import scorers
from sasrec.model import Sasrec
from sasrec.sequences import Sequences, last_books

INPUT, OUTPUT = "histories", "scores"
OPSET = 17  # the first with LayerNormalization
READERS_PER_BATCH = 128


class NextBookScores(nn.Module):
    """Scores every book after each history, as `scorers.by_model` does."""

    def __init__(self, model: Sasrec, *, padding: bool) -> None:
        super().__init__()
        self.model = model
        self.padding = padding

    def forward(self, histories: Tensor) -> Tensor:
        """Return scores (batch, num_books + 1) for histories (batch, length) int64, padded on the left with 0."""
        length, max_len = histories.shape[1], self.model.params.max_len
        positions = torch.arange(max_len - length, max_len).expand_as(histories)
        if not self.padding:
            lengths = (histories != 0).sum(1, keepdim=True).clamp(min=1)
            positions = (positions - (max_len - lengths)).clamp(min=0)
        return self.model.encode_last(histories, positions) @ self.model.item_embedding.weight.T


def write(path: Path, model: Sasrec, *, padding: bool = True) -> None:
    """Write the graph: histories (batch, length) int64 in, scores (batch, num_books + 1) float32 out.

    `batch` is free, `length` from 1 to max_len.
    """
    example = torch.tensor([[0] * (model.params.max_len - 1) + [1]] * 2)  # two: a batch of one would become a constant
    with warnings.catch_warnings():
        # Each part of this exporter says that it is deprecated; its successor needs onnxscript and the compiler.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            NextBookScores(model, padding=padding),
            (example,),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch", 1: "length"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            do_constant_folding=False,  # it would store the transposed embeddings a second time
            dynamo=False,
        )
    onnx.checker.check_model(path, full_check=True)


def largest_difference(path: Path, model: Sasrec, histories: Sequences, *, padding: bool = True) -> float:
    """Return how far the scores of the graph at `path` are from those that `evaluate` ranks by, at most."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = scorers.by_model(model, padding=padding)(histories)
    differences = []
    for readers in _batches(len(histories)):
        length = np.clip(histories.lengths[readers].max(), 1, model.params.max_len)
        (scores,) = session.run([OUTPUT], {INPUT: last_books(histories, readers, length).astype(np.int64)})
        differences.append(np.abs(scores - expected(readers).numpy()).max())
    return float(np.max(differences))  # NaN where one is


def _batches(number: int) -> Iterator[np.ndarray]:
    for start in range(0, number, READERS_PER_BATCH):
        yield np.arange(start, min(start + READERS_PER_BATCH, number))
