import math

import numpy as np
import pytest
import torch
from conftest import sequences

from sasrec import captured, device, losses, training
from sasrec.holdout import TrainingSet
from sasrec.model import SasrecParams
from sasrec.sampling import Batch, DeviceSampler, PackedSampler, Sizes
from sasrec.training import TrainParams

CPU = torch.device("cpu")
SASREC = SasrecParams(
    max_len=5, hidden_units=16, num_heads=1, num_layers=1, dropout_rate=0.2, norm_first=False, init_std=0.02
)
READERS = sequences([1, 2, 3], [4, 5], [6], [7, 8, 9, 10, 11, 12, 13])
TRAIN = TrainingSet(READERS, num_readers=4, num_books=30)
SIZES = Sizes(batch_size=64, num_negatives=1, max_len=5)


def params(seed: int = 0, precision: str = "float32") -> TrainParams:
    return TrainParams("bce", 1, "last", 0.01, 64, 1, seed, "cpu", 2, "portable", precision)


def test_bce_is_the_papers_formula() -> None:
    positive, negative = [0.5, -2.0], [[1.0, 0.0, -1.0], [3.0, 0.1, 0.2]]

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    terms = [
        -math.log(sigmoid(p)) - sum(math.log(1 - sigmoid(n)) for n in row)
        for p, row in zip(positive, negative, strict=True)
    ]
    loss = losses.bce(torch.tensor(positive), torch.tensor(negative))
    assert loss.tolist() == pytest.approx(terms)


def test_padded_places_do_not_count_in_the_loss() -> None:
    state = training.start(TRAIN, params(), SASREC, CPU)
    network = state.model.requires_grad_(False)
    items = network.item_embedding.weight
    batch = Batch(
        history=torch.tensor([[0, 0, 0, 1, 2]]),
        positives=torch.tensor([[0, 0, 0, 2, 3]]),
        negatives=torch.tensor([[[0], [0], [0], [9], [8]]]),
        positions=torch.arange(5)[None],
        segments=torch.tensor([[0, 0, 0, 1, 1]]),
    )
    features = network(batch.history)[0]
    pairs = [(features[3], 2, 9), (features[4], 3, 8)]
    terms = [torch.log1p(torch.exp(-f @ items[p])) + torch.log1p(torch.exp(f @ items[n])) for f, p, n in pairs]
    assert training.batch_loss(network, batch, None).item() == pytest.approx(float(sum(terms)) / 2, rel=1e-5)


def train(seed: int, num_steps: int = 60) -> tuple[list[float], torch.Tensor]:
    state = training.start(TRAIN, params(seed=seed), SASREC, CPU)
    sampler = PackedSampler(TRAIN, SIZES)
    steps = [training.step(state, sampler.draw(state.batch_rng)).item() for _ in range(num_steps)]
    return steps, state.model.item_embedding.weight.detach()


def test_training_learns_who_follows_whom() -> None:
    steps, _ = train(seed=0)
    assert steps[0] == pytest.approx(2 * math.log(2), abs=0.05)  # it starts knowing nothing
    assert steps[-1] < 0.7


def test_the_padding_never_learns() -> None:
    _, items = train(seed=0, num_steps=5)
    assert items[0].abs().max() == 0


def test_the_seed_decides_every_bit() -> None:
    (steps, weights), (again, same), (_, other) = train(0), train(0), train(1)
    assert steps == again
    assert torch.equal(weights, same)
    assert not torch.equal(weights, other)


def test_no_draw_comes_from_global_state() -> None:
    numpy_state, torch_state = np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    train(seed=0, num_steps=3)
    assert np.random.get_state()[1].tolist() == numpy_state
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_bfloat16_changes_the_loss_by_its_rounding_only() -> None:
    batch = PackedSampler(TRAIN, SIZES).draw(np.random.default_rng(0))
    exact, rounded = (
        training.step(training.start(TRAIN, params(precision=each), SASREC, CPU), batch).item()
        for each in ("float32", "bfloat16")
    )
    assert rounded == pytest.approx(exact, rel=0.01)
    assert rounded != exact


def train_on_cuda(num_steps: int) -> tuple[list[float], torch.Tensor]:
    where = device.use("cuda", 2)
    state = training.start(TRAIN, params(), SASREC, where)
    take_step = captured.CapturedStep(state, DeviceSampler(TRAIN, SIZES, where))
    steps = [take_step().item() for _ in range(num_steps)]
    return steps, state.model.item_embedding.weight.detach()


@pytest.mark.cuda
def test_two_runs_on_cuda_end_with_the_same_bits() -> None:
    (steps, weights), (again, same) = train_on_cuda(20), train_on_cuda(20)
    assert steps == again
    assert torch.equal(weights, same)


@pytest.mark.cuda
def test_a_captured_step_on_cuda_learns_as_eager_ones_do() -> None:
    where = device.use("cuda", 2)
    state = training.start(TRAIN, params(), SASREC, where)
    sampler = DeviceSampler(TRAIN, SIZES, where)
    eager = [training.step(state, sampler.draw(state.generator)).item() for _ in range(20)]
    steps, weights = train_on_cuda(20)
    assert steps == pytest.approx(eager, rel=1e-4)
    torch.testing.assert_close(weights, state.model.item_embedding.weight.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
def test_a_captured_step_never_waits_for_the_device() -> None:
    where = device.use("cuda", 2)
    state = training.start(TRAIN, params(), SASREC, where)
    take_step = captured.CapturedStep(state, DeviceSampler(TRAIN, SIZES, where))
    for _ in range(captured.EAGER_STEPS + 1):
        take_step()
    torch.cuda.set_sync_debug_mode("error")
    take_step()
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_a_step_on_cuda_has_the_cpus_loss_and_gradient() -> None:
    batch = DeviceSampler(TRAIN, SIZES, CPU).draw(torch.Generator().manual_seed(0))
    gradients = []
    for where in (CPU, device.use("cuda", 2)):
        network = training.start(TRAIN, params(), SASREC, where).model
        loss = training.batch_loss(network, Batch(*(tensor.to(where) for tensor in batch)), None)
        loss.backward()
        gradients.append([loss.detach().cpu(), *(parameter.grad.cpu() for parameter in network.parameters())])
    for on_cpu, on_cuda in zip(*gradients, strict=True):
        torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-4, atol=1e-6)
