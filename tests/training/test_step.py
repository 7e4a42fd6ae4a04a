import contextlib
import math
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
import torch
from conftest import sequences, train_params, training_set

from sasrec.model.params import SasrecParams
from sasrec.runtime import device
from sasrec.training import cuda_graph, step, training_loss
from sasrec.training.params import TrainParams
from sasrec.training.sampling import Batch, DeviceSampler, PackedSampler
from sasrec.training.shared_negatives import SharedNegatives

CPU = torch.device("cpu")
SASREC = SasrecParams(
    max_len=5, hidden_units=16, num_heads=1, num_layers=1, dropout_rate=0.2, norm_first=False, init_std=0.02
)
USERS = sequences([1, 2, 3], [4, 5], [6], [7, 8, 9, 10, 11, 12, 13])
TRAIN = training_set(USERS, num_books=30)
PARAMS = train_params(lr=0.01, batch_size=64)
LOSSES = ["bce", "gbce", "sampled_softmax", "softmax"]


def start(params: TrainParams = PARAMS, where: torch.device = CPU) -> step.TrainingState:
    return step.start(TRAIN, params, SASREC, where)


def changed(**changes: object) -> TrainParams:
    return msgspec.structs.replace(PARAMS, **changes)


def train(params: TrainParams, num_steps: int = 60) -> tuple[list[float], torch.Tensor]:
    state = start(params)
    sampler = PackedSampler(TRAIN, step.batch_spec(params, SASREC.max_len))
    loss_of = training_loss.TrainingLoss(state.model, TRAIN, params)
    steps = [step.step(state, sampler.draw(state.batch_rng), loss_of).item() for _ in range(num_steps)]
    return steps, state.model.item_embedding.weight.detach()


def test_padded_positions_do_not_count_in_the_loss() -> None:
    params = msgspec.structs.replace(SASREC, dropout_rate=0.0)
    network = step.start(TRAIN, PARAMS, params, CPU).model.requires_grad_(False)
    items = network.item_embedding.weight
    batch = Batch(
        history=torch.tensor([[0, 0, 0, 1, 2]]),
        positives=torch.tensor([[0, 0, 0, 2, 3]]),
        negatives=torch.tensor([[[0], [0], [0], [9], [8]]]),
        positions=torch.arange(5)[None],
        segments=torch.tensor([[0, 0, 0, 1, 1]]),
    )
    features = network.encode(network.item_embedding(batch.history), batch.positions, (batch.history != 0).int())[0]
    pairs = [(features[3], 2, 9), (features[4], 3, 8)]
    terms = [torch.log1p(torch.exp(-f @ items[p])) + torch.log1p(torch.exp(f @ items[n])) for f, p, n in pairs]
    loss = training_loss.TrainingLoss(network, TRAIN, PARAMS)(batch, torch.Generator())
    assert loss.item() == pytest.approx(float(sum(terms)) / 2, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_learns_who_follows_whom(loss: str) -> None:
    params = changed(loss=loss, num_negatives=20 if loss == "sampled_softmax" else 1)
    steps, _ = train(params)
    assert steps[-1] < steps[0] * 0.6


@pytest.mark.parametrize(("loss", "expected"), [("bce", 2 * math.log(2)), ("softmax", math.log(30))])
def test_training_starts_knowing_nothing(loss: str, expected: float) -> None:
    steps, _ = train(changed(loss=loss), num_steps=1)
    assert steps[0] == pytest.approx(expected, abs=0.05)


def test_sampled_softmax_of_many_negatives_is_about_softmax() -> None:
    (sampled, *_), _ = train(changed(loss="sampled_softmax", num_negatives=20_000), num_steps=1)
    (full, *_), _ = train(changed(loss="softmax"), num_steps=1)
    assert sampled == pytest.approx(full, abs=0.05)


def test_in_batch_negatives_train_too() -> None:
    steps, _ = train(changed(loss="sampled_softmax", negatives="in_batch", num_negatives=20))
    assert steps[-1] < steps[0] * 0.6


@pytest.mark.parametrize("loss", LOSSES)
def test_the_padding_never_learns(loss: str) -> None:
    _, items = train(changed(loss=loss), num_steps=5)
    assert items[0].abs().max() == 0


def test_the_seed_decides_every_bit() -> None:
    (steps, weights), (again, same), (_, other) = (train(changed(seed=seed), num_steps=10) for seed in (0, 0, 1))
    assert steps == again
    assert torch.equal(weights, same)
    assert not torch.equal(weights, other)


def test_the_rate_rises_then_falls_to_zero_as_a_cosine() -> None:
    params = changed(lr=1.0, warmup_steps=4, schedule="cosine")
    rates = [step.learning_rate(params, taken, num_steps=12) for taken in range(13)]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1, 1])
    assert rates[8] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0)


def test_the_rate_is_constant_by_default() -> None:
    assert {step.learning_rate(PARAMS, taken, num_steps=12) for taken in range(12)} == {0.01}


def take_one(state: step.TrainingState) -> None:
    sampler = PackedSampler(TRAIN, step.batch_spec(state.params, SASREC.max_len))
    step.step(state, sampler.draw(state.batch_rng), training_loss.TrainingLoss(state.model, TRAIN, state.params))


def test_the_first_step_moves_weights_by_the_rate_that_was_set() -> None:
    state, before = start(), start().model
    step.set_learning_rate(state.optimizer, 0.25)
    take_one(state)
    moved = (state.model.position_embedding.weight - before.position_embedding.weight).abs().max()
    assert moved.item() == pytest.approx(0.25, rel=1e-3)  # Adam's first step is the gradient over its own size


@pytest.mark.parametrize("loss", LOSSES)
def test_every_parameter_learns_at_every_step(loss: str) -> None:
    state = start(changed(loss=loss))
    for _ in range(2):
        before = [parameter.detach().clone() for parameter in state.model.parameters()]
        take_one(state)
        assert all(not torch.equal(old, new) for old, new in zip(before, state.model.parameters(), strict=True))


def test_the_gradient_of_a_step_is_not_added_to_the_next_one() -> None:
    state = start()
    step.set_learning_rate(state.optimizer, 0.0)
    gradients = []
    for _ in range(2):
        state.batch_rng, state.generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        take_one(state)
        gradients.append(state.model.position_embedding.weight.grad.clone())
    assert torch.equal(*gradients)


def test_weight_decay_shrinks_what_has_no_gradient() -> None:
    state = start(changed(weight_decay=0.5, batch_size=1))
    before = state.model.item_embedding.weight.detach().clone()
    take_one(state)
    is_left = (state.model.item_embedding.weight.grad == 0).all(1)
    assert is_left.sum() > 10
    torch.testing.assert_close(state.model.item_embedding.weight[is_left], before[is_left] * (1 - 0.01 * 0.5))


def test_clipping_bounds_the_norm_of_the_gradient() -> None:
    state = start(changed(clip_norm=1e-3))
    take_one(state)
    norms = [parameter.grad.norm() for parameter in state.model.parameters()]
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_no_draw_comes_from_global_state() -> None:
    numpy_state, torch_state = np.random.get_state()[1].tolist(), torch.random.get_rng_state()
    train(PARAMS, num_steps=3)
    assert np.random.get_state()[1].tolist() == numpy_state
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_bfloat16_changes_the_loss_by_its_rounding_only() -> None:
    (exact, *_), _ = train(PARAMS, num_steps=1)
    (rounded, *_), _ = train(changed(precision="bfloat16"), num_steps=1)
    assert rounded == pytest.approx(exact, rel=0.01)
    assert rounded != exact


def captured() -> tuple[cuda_graph.CapturedStep, step.TrainingState]:
    where = device.use("cuda", 2)
    state = start(where=where)
    sampler = DeviceSampler(TRAIN, step.batch_spec(PARAMS, SASREC.max_len), where)
    return cuda_graph.CapturedStep(state, sampler, training_loss.TrainingLoss(state.model, TRAIN, PARAMS)), state


def take_captured(num_steps: int) -> tuple[list[float], step.TrainingState]:
    take_step, state = captured()
    return [take_step().item() for _ in range(num_steps)], state


@pytest.mark.cuda
def test_two_runs_on_cuda_end_with_the_same_bits() -> None:
    (steps, state), (again, same) = take_captured(20), take_captured(20)
    assert steps == again
    assert torch.equal(state.model.item_embedding.weight, same.model.item_embedding.weight)


@pytest.mark.cuda
def test_captured_steps_learn_as_eager_ones_do() -> None:
    where = device.use("cuda", 2)
    state = start(where=where)
    sampler = DeviceSampler(TRAIN, step.batch_spec(PARAMS, SASREC.max_len), where)
    loss_of = training_loss.TrainingLoss(state.model, TRAIN, PARAMS)
    eager = [step.step(state, sampler.draw(state.generator), loss_of).item() for _ in range(20)]
    steps, of_graph = take_captured(20)
    assert steps == pytest.approx(eager, rel=1e-4)
    expected = state.model.item_embedding.weight
    torch.testing.assert_close(of_graph.model.item_embedding.weight, expected, rtol=1e-3, atol=1e-4)


@contextlib.contextmanager
def refusing_to_wait() -> Iterator[None]:
    """Any wait for the device is an error in the block, as far as PyTorch sees it."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_captured_step_never_waits_for_the_device() -> None:
    take_step, state = captured()
    for _ in range(cuda_graph.EAGER_STEPS + 1):
        take_step()
    with refusing_to_wait():
        step.set_learning_rate(state.optimizer, 0.02)
        take_step()


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_wait_for_the_device_would_be_refused() -> None:
    loss = torch.ones((), device="cuda")
    with refusing_to_wait(), pytest.raises(RuntimeError, match="synchronizing"):
        loss.item()


@pytest.mark.cuda
def test_a_captured_step_has_the_rate_that_was_set_after_the_capture() -> None:
    take_step, state = captured()
    for _ in range(cuda_graph.EAGER_STEPS + 1):
        take_step()
    before = state.model.item_embedding.weight.detach().clone()
    step.set_learning_rate(state.optimizer, 0.0)
    take_step()
    assert torch.equal(state.model.item_embedding.weight, before)
    step.set_learning_rate(state.optimizer, 0.01)
    take_step()
    assert not torch.equal(state.model.item_embedding.weight, before)


@pytest.mark.cuda
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_on_cuda_has_the_cpus_loss_and_gradient(loss: str) -> None:
    params = changed(loss=loss)
    sasrec = msgspec.structs.replace(SASREC, dropout_rate=0.0)
    batch = PackedSampler(TRAIN, step.batch_spec(params, SASREC.max_len)).draw(np.random.default_rng(0))
    gradients = []
    for where in (CPU, device.use("cuda", 2)):
        network = step.start(TRAIN, params, sasrec, where).model
        loss_of = training_loss.TrainingLoss(network, TRAIN, params)
        shared = SharedNegatives(torch.arange(1, 31, device=where), torch.zeros(30, device=where))
        loss_of.draw_shared = lambda _positives, _generator, shared=shared: shared  # no device draws the others' bits
        value = loss_of(Batch(*(tensor.to(where) for tensor in batch)), torch.Generator(where))
        value.backward()
        gradients.append([value.detach().cpu(), *(parameter.grad.cpu() for parameter in network.parameters())])
    for on_cpu, on_cuda in zip(*gradients, strict=True):
        torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-4, atol=1e-6)
