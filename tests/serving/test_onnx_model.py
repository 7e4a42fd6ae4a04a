"""The ONNX graph gives the model's scores, at every length and batch, or is not written."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, model_of, sequences

from sasrec.commands import export
from sasrec.core.errors import UserError
from sasrec.evaluation import model_scorer
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import HybridWeights, build_model
from sasrec.serving import onnx_model
from sasrec.serving.model_folder import Model
from sasrec.serving.recommender import Recommender

NUM_BOOKS = 9


def build(padding: bool = True, **changes: object) -> Model:
    shape = {"max_len": 5, "hidden_units": 8, "num_heads": 2, "num_layers": 2, "norm_first": False} | changes
    params = SasrecParams(**shape, dropout_rate=0.5, init_std=0.5)
    network = build_model(params, NUM_BOOKS, torch.Generator().manual_seed(0))
    return model_of(network, padding=padding, hybrid=HybridWeights(0.5), version="v1")


def run(path: Path, histories: list[list[int]]) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"histories": torch.tensor(histories).numpy()})
    return torch.from_numpy(scores)


@pytest.mark.parametrize("changes", [{}, {"norm_first": True}, {"num_heads": 1, "num_layers": 1}, {"num_layers": 0}])
def test_the_graph_gives_the_scores_of_the_forward_pass(tmp_path: Path, changes: dict[str, object]) -> None:
    model = build(**changes)
    network = model.network
    onnx_model.write(tmp_path / "graph.onnx", model)
    for histories in ([[7]], [[0, 2], [3, 1], [0, 0]], [[0, 0, 4, 8, 4], [1, 2, 3, 4, 5]]):
        history = torch.tensor(histories)
        positions = torch.arange(network.params.max_len)[-history.shape[1] :].expand_as(history)
        expected = network(history, positions) @ network.item_embedding.weight.T
        torch.testing.assert_close(run(tmp_path / "graph.onnx", histories), expected, atol=1e-5, rtol=0)


def test_without_padding_a_short_history_has_the_first_positions(tmp_path: Path) -> None:
    model = build(padding=False)
    onnx_model.write(tmp_path / "graph.onnx", model)
    expected = model_scorer.by_model(model.network, padding=False)(sequences([6, 7], [1, 2, 3, 4, 5]))(
        torch.arange(2).numpy()
    )
    found = run(tmp_path / "graph.onnx", [[0, 0, 0, 6, 7], [1, 2, 3, 4, 5]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_input_and_output_are_those_of_the_documentation(tmp_path: Path) -> None:
    onnx_model.write(tmp_path / "graph.onnx", build())
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("histories", "tensor(int64)", ["batch", "length"])
    assert (returned.name, returned.type, returned.shape[0]) == ("scores", "tensor(float)", "batch")


def test_the_same_model_gives_the_same_bytes_and_no_path_of_this_machine(tmp_path: Path) -> None:
    for name in ("first", "second"):
        onnx_model.write(tmp_path / name, build())
    content = (tmp_path / "first").read_bytes()
    assert content == (tmp_path / "second").read_bytes()
    assert str(ROOT).encode() not in content


def test_the_graph_carries_the_ids_of_its_books_and_says_what_it_scores(tmp_path: Path) -> None:
    onnx_model.write(tmp_path / "graph.onnx", build())
    metadata = onnxruntime.InferenceSession(tmp_path / "graph.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(metadata["book_ids"]) == [str(10 * book) for book in range(1, NUM_BOOKS + 1)]
    assert metadata["version"] == "v1"
    assert metadata["scores"] == "the logits of the network alone, without what the hybrid adds"


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))
    return tmp_path / "models/sasrec.onnx"


def test_the_exported_graph_ranks_as_the_network(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.main([])
    assert "the network alone, without what the hybrid adds; its scores after 1000" in capsys.readouterr().out
    onnx.checker.check_model(here)
    session = onnxruntime.InferenceSession(here)
    (scores,) = session.run(["scores"], {"histories": np.array([[0, 5, 7]])})
    network = Recommender.load("models").model.network
    expected = model_scorer.by_model(network)(sequences([5, 7]))(np.array([0]))
    assert scores[0] == pytest.approx(expected[0].numpy(), abs=1e-4)


@pytest.mark.parametrize("wrong", ["1e-3", "nan"])
def test_a_graph_with_other_scores_is_not_written(here: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    here.write_bytes(b"earlier")
    network_scores = onnx_model.NextBookScores.forward
    monkeypatch.setattr(
        onnx_model.NextBookScores, "forward", lambda self, histories: network_scores(self, histories) + float(wrong)
    )
    with pytest.raises(UserError, match=r"not written: a score of onnxruntime differs from PyTorch's by"):
        export.main([])
    assert here.read_bytes() == b"earlier"
