"""Exports the network of a model as an ONNX graph, and compares onnxruntime's scores with PyTorch's."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from sasrec.evaluation import model_scorer
from sasrec.model.sasrec import Sasrec
from sasrec.serving.model_folder import Model
from sasrec.split.sequences import Sequences, last_books

INPUT, OUTPUT = "histories", "scores"
SCORES = "the logits of the network alone, without what the hybrid adds"
OPSET = 17  # the first operator set with LayerNormalization
USERS_PER_BATCH = 128
NUM_HISTORIES = 1000  # that the scores are compared after


class NextBookScores(nn.Module):
    """Scores every book after each history, as `model_scorer.by_model` does."""

    def __init__(self, model: Sasrec, *, padding: bool) -> None:
        super().__init__()
        self.model = model
        self.padding = padding

    def forward(self, histories: Tensor) -> Tensor:
        """Return scores (batch, num_books + 1) for histories (batch, length) int64, padded on the left with 0."""
        length, max_len = histories.shape[1], self.model.params.max_len
        positions = torch.arange(max_len - length, max_len).expand_as(histories)  # (batch, length)
        if not self.padding:
            lengths = (histories != 0).sum(1, keepdim=True).clamp(min=1)  # (batch, 1)
            positions = (positions - (max_len - lengths)).clamp(min=0)
        return self.model(histories, positions) @ self.model.item_embedding.weight.T


def write(path: Path, model: Model) -> None:
    """Write a graph that takes histories (batch, length) int64 and returns scores (batch, num_books + 1) float32.

    `batch` is any size, `length` is 1 to max_len. The graph's metadata have `book_ids`, a JSON list of the ids from
    book_idx 1 on, and `version`, the model's.
    """
    # Two rows, because a batch of one would become a constant.
    example = torch.tensor([[0] * (model.network.params.max_len - 1) + [1]] * 2)
    with warnings.catch_warnings():
        # The exporter warns that it is deprecated, but its successor needs onnxscript and the compiler.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            NextBookScores(model.network, padding=model.padding),
            (example,),
            str(path),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch", 1: "length"}, OUTPUT: {0: "batch"}},
            opset_version=OPSET,
            do_constant_folding=False,  # it would store the transposed embeddings a second time
            dynamo=False,
        )
    graph = onnx.load(path)
    onnx.helper.set_model_props(
        graph, {"book_ids": json.dumps(model.books.ids.to_pylist()), "version": model.version, "scores": SCORES}
    )
    onnx.save(graph, path)
    onnx.checker.check_model(path, full_check=True)


def largest_difference(path: Path, model: Model) -> float:
    """Return the largest difference between the graph's and the network's scores, after NUM_HISTORIES made-up ones."""
    histories = _made_up(model.num_books, model.network.params.max_len)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = model_scorer.by_model(model.network, padding=model.padding)(histories)
    differences = []
    for users in _batches(len(histories)):
        length = np.clip(histories.lengths[users].max(), 1, model.network.params.max_len)
        (scores,) = session.run([OUTPUT], {INPUT: last_books(histories, users, length).astype(np.int64)})
        differences.append(np.abs(scores - expected(users).numpy()).max())
    return float(np.max(differences))  # NaN if any is NaN


def _made_up(num_books: int, max_len: int) -> Sequences:
    """Return histories of up to twice max_len books, the same for the same sizes."""
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 2 * max_len, NUM_HISTORIES, endpoint=True))])
    return Sequences(rng.integers(1, num_books, offsets[-1], dtype=np.int32, endpoint=True), offsets)


def _batches(number: int) -> Iterator[np.ndarray]:
    for start in range(0, number, USERS_PER_BATCH):
        yield np.arange(start, min(start + USERS_PER_BATCH, number))
