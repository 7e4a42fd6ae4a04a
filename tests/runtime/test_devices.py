"""Sampling, losses, their gradients and ranking mix no devices: the device `meta`, which every PyTorch has, shows it.

It stands for a GPU: it holds no values, and refuses to compute with a tensor of the CPU.
"""

import numpy as np
import pytest
import torch
from conftest import sequences, train_params, training_set

from sasrec.evaluation import model_scorer
from sasrec.model.sasrec import Sasrec, SasrecParams
from sasrec.training import sampling
from sasrec.training.losses import LOSSES
from sasrec.training.training_loss import TrainingLoss

META = torch.device("meta")
NUM_BOOKS = 30
TRAIN = training_set(sequences(*np.random.default_rng(0).integers(1, NUM_BOOKS, size=(20, 9)).tolist()), NUM_BOOKS)


@pytest.fixture
def network() -> Sasrec:
    with META:
        return Sasrec(SasrecParams(6, 8, 2, 2, 0.5, False, 0.02), NUM_BOOKS)


@pytest.mark.parametrize(
    ("loss", "negatives"), [*((loss, "uniform") for loss in LOSSES), ("sampled_softmax", "in_batch")]
)
def test_a_batch_drawn_on_a_device_has_its_loss_and_gradients_there(network: Sasrec, loss: str, negatives: str) -> None:
    spec = sampling.BatchSpec(5, 4 if LOSSES[loss].negatives == "own" else 0, 6, "random")
    batch = sampling.DeviceSampler(TRAIN, spec, META).draw(torch.Generator())
    params = train_params(loss=loss, negatives=negatives, num_negatives=1 if loss == "softmax" else 4)
    TrainingLoss(network, TRAIN, params)(batch, torch.Generator()).backward()
    assert {parameter.grad.device.type for parameter in network.parameters()} == {"meta"}


def test_users_are_scored_on_the_device_of_the_network(network: Sasrec) -> None:
    scores = model_scorer.by_model(network)(TRAIN.histories)(np.arange(3))
    assert (scores.device, scores.shape) == (META, (3, NUM_BOOKS + 1))


def test_a_tensor_of_another_device_would_be_refused(network: Sasrec) -> None:
    with pytest.raises(RuntimeError, match="device"):
        network.item_embedding.weight + torch.ones(NUM_BOOKS + 1, 8)
