"""Which epoch of a training is kept, and when it stops."""

import os
from pathlib import Path
from unittest import mock

import pytest
import torch
from conftest import sequences, train_params, training_set

from sasrec.evaluation import metrics, ranking
from sasrec.io import files
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import Config, load_model
from sasrec.training import loop, step

with mock.patch.dict(os.environ):  # the stage sets variables for torch when it is imported
    import train_gpu

SASREC = SasrecParams(5, 8, 1, 1, 0.2, False, 0.02)
TRAIN = training_set(sequences([1, 2, 3], [4, 5]), num_books=30)


def after(*validation_ndcgs: float, **params: object) -> step.TrainingState:
    """A training after epochs of one step; item 1 of the weights is the number of the epoch."""
    state = step.start(TRAIN, train_params(**params), SASREC, torch.device("cpu"))
    for epoch, ndcg in enumerate(validation_ndcgs, start=1):
        with torch.no_grad():
            state.model.item_embedding.weight[1] = epoch
        point = {"full": {"NDCG@10": ndcg}, "sampled": {"NDCG@10": 1 - ndcg}}
        with mock.patch.object(ranking, "rank"), mock.patch.object(ranking, "summary", return_value=point):
            loop.validate(state, mock.Mock())
        state.losses.append(float(epoch))
    return state


@pytest.mark.parametrize(("keep", "epoch"), [("best", 2), ("last", 4)])
def test_the_weights_of_the_epoch_kept_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, epoch: int
) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config(30, SASREC)
    files.make_folders(train_gpu.WEIGHTS, train_gpu.METRICS, train_gpu.LOSS)
    state = after(0.1, 0.3, 0.3, 0.2, keep=keep)
    loop.keep(state)
    with mock.patch.object(metrics, "names", return_value=["NDCG@10"]):
        train_gpu.write_outputs(state, config, loop.Hybrid(0.5, {}))
    weights = load_model(train_gpu.WEIGHTS, config).item_embedding.weight
    assert weights[1].tolist() == [epoch] * 8
    assert f'"kept_epoch": {epoch}' in train_gpu.METRICS.read_text()
    assert f'"loss": {epoch}.0' in train_gpu.METRICS.read_text()


@pytest.mark.parametrize(
    ("ndcgs", "patience", "is_over"),
    [
        ([0.3, 0.2], 2, False),
        ([0.3, 0.2, 0.1], 2, True),
        ([0.3, 0.2, 0.4], 2, False),
        ([0.3, 0.3, 0.3], 2, True),  # as good is not better
        ([0.3, 0.2, 0.1], None, False),
        ([0.1, 0.2, 0.3, 0.4], None, True),
    ],
)
def test_training_stops_after_its_epochs_or_without_a_better_one(
    ndcgs: list[float], patience: int | None, is_over: bool
) -> None:
    assert loop.is_over(after(*ndcgs, num_epochs=4, patience=patience)) == is_over


@pytest.mark.parametrize(("select", "epoch"), [("full", 2), ("sampled", 1)])
def test_the_ranking_that_selects_decides_which_epoch_is_the_best(select: str, epoch: int) -> None:
    assert loop.best_epoch(after(0.1, 0.3, 0.2, select=select)) == epoch
