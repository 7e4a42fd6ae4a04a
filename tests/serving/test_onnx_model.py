"""The ONNX graph gives the model's scores, at every length and batch, or is not written."""

import os
import shutil
import sys
from pathlib import Path
from unittest import mock

import onnx
import onnxruntime
import pytest
import torch
from conftest import ROOT, sequences

from sasrec.core.errors import UserError
from sasrec.evaluation import model_scorer
from sasrec.model.sasrec import Sasrec, SasrecParams, build_model
from sasrec.serving import onnx_model

with mock.patch.dict(os.environ):  # it sets variables for torch when it is imported
    import export

NUM_BOOKS = 9


def build(**changes: object) -> Sasrec:
    shape = {"max_len": 5, "hidden_units": 8, "num_heads": 2, "num_layers": 2, "norm_first": False} | changes
    return build_model(
        SasrecParams(**shape, dropout_rate=0.5, init_std=0.5), NUM_BOOKS, torch.Generator().manual_seed(0)
    )


def run(path: Path, histories: list[list[int]]) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {"histories": torch.tensor(histories).numpy()})
    return torch.from_numpy(scores)


@pytest.mark.parametrize("histories", [[[7]], [[0, 2], [3, 1], [0, 0]], [[0, 0, 4, 8, 4], [1, 2, 3, 4, 5]]])
@pytest.mark.parametrize("changes", [{}, {"norm_first": True}, {"num_heads": 1, "num_layers": 1}, {"num_layers": 0}])
def test_the_graph_gives_the_scores_of_the_forward_pass(
    tmp_path: Path, histories: list[list[int]], changes: dict[str, object]
) -> None:
    network = build(**changes)
    onnx_model.write(tmp_path / "graph.onnx", network)
    history = torch.tensor(histories)
    positions = torch.arange(network.params.max_len)[-history.shape[1] :].expand_as(history)
    expected = network(history, positions) @ network.item_embedding.weight.T
    torch.testing.assert_close(run(tmp_path / "graph.onnx", histories), expected, atol=1e-5, rtol=0)


def test_without_padding_a_short_history_has_the_first_positions(tmp_path: Path) -> None:
    network = build()
    onnx_model.write(tmp_path / "graph.onnx", network, padding=False)
    expected = model_scorer.by_model(network, padding=False)(sequences([6, 7], [1, 2, 3, 4, 5]))(
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


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("params.yaml", "models", "data/split"):
        copy = shutil.copytree if (finished / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(finished / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: torch.device("cpu"))
    return tmp_path


def test_the_exported_model_is_compared_on_the_held_out_users(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.main()
    printed = capsys.readouterr().out
    assert "the network alone, without item transitions" in printed
    assert "its scores for 60 held-out users are PyTorch's within" in printed
    onnx.checker.check_model(export.ONNX)


@pytest.mark.parametrize("wrong", ["1e-3", "nan"])
def test_a_graph_with_other_scores_is_not_written(here: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    export.ONNX.write_bytes(b"earlier")
    network_scores = onnx_model.NextBookScores.forward
    monkeypatch.setattr(
        onnx_model.NextBookScores, "forward", lambda self, histories: network_scores(self, histories) + float(wrong)
    )
    with pytest.raises(UserError, match=r"not written: a score of onnxruntime differs from PyTorch's by"):
        export.main()
    assert export.ONNX.read_bytes() == b"earlier"


def test_missing_packages_are_named_with_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as where it is not installed
    with pytest.raises(UserError, match=r"needs onnx and onnxruntime; run `pip install -c constraints.txt -e "):
        export.main()
