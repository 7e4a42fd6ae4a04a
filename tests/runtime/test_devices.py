"""Sampling, losses, their gradients and ranking mix no devices: the device `meta`, which every PyTorch has, shows it.

It stands for a GPU: it holds no values, and refuses to compute with a tensor of the CPU. Where PyTorch finds a GPU, the
GPU shows it, too.
"""

import numpy as np
import pytest
import torch
from conftest import sequences, train_params, training_set

from sasrec.evaluation import rankers
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import HybridWeights, Sasrec
from sasrec.runtime.world import ALONE
from sasrec.training import sampling
from sasrec.training.params import LOSSES
from sasrec.training.training_loss import TrainingLoss

NUM_BOOKS = 30
TRAIN = training_set(sequences(*np.random.default_rng(0).integers(1, NUM_BOOKS, size=(20, 9)).tolist()), NUM_BOOKS)


@pytest.fixture(params=["meta", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def network(device: torch.device) -> Sasrec:
    with device:
        found = Sasrec(SasrecParams(6, 8, 2, 2, 0.5, False, 0.02), NUM_BOOKS, num_inputs=3)
    found.autoencoder.rows = torch.zeros(NUM_BOOKS + 1, dtype=torch.int64)  # the hybrid reads them on the CPU
    return found


@pytest.mark.parametrize(
    ("loss", "negatives"), [*((loss, "uniform") for loss in LOSSES), ("sampled_softmax", "in_batch")]
)
def test_a_batch_drawn_on_a_device_has_its_loss_and_gradients_there(
    network: Sasrec, device: torch.device, loss: str, negatives: str
) -> None:
    spec = sampling.BatchSpec(5, 4 if LOSSES[loss] == "own" else 0, 6, "random")
    generator = torch.Generator("cpu" if device.type == "meta" else device)  # meta has none
    batch = sampling.DeviceSampler(TRAIN, spec, device).draw(generator)
    params = train_params(loss=loss, negatives=negatives, num_negatives=1 if loss == "softmax" else 4)
    TrainingLoss(network, TRAIN, params)(batch, generator).backward()
    assert {parameter.grad.device.type for parameter in network.parameters()} == {device.type}


@pytest.mark.parametrize("ranker", ["sasrec", "hybrid"])
def test_users_are_scored_on_the_device_of_the_network(network: Sasrec, device: torch.device, ranker: str) -> None:
    scorers = rankers.scorers(network, HybridWeights(0.5, 2), TRAIN, ALONE, padding=True)
    scores = scorers[ranker](TRAIN.histories)(np.arange(3))
    assert (scores.device.type, scores.shape) == (device.type, (3, NUM_BOOKS + 1))


def test_a_tensor_of_another_device_would_be_refused(network: Sasrec) -> None:
    with pytest.raises(RuntimeError, match="device"):
        network.item_embedding.weight + torch.ones(NUM_BOOKS + 1, 8)
