"""Training that diverges or runs out of memory ends with one line, and leaves no checkpoint of a bad state."""

import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import curves
import msgspec
import numpy as np
import pytest
import torch
from conftest import sequences, set_params, train_params, training_set

from sasrec.core import errors
from sasrec.core.errors import UserError
from sasrec.model.params import SasrecParams
from sasrec.model.sasrec import Config, load_config, save_config
from sasrec.split.datasets import TrainingSet
from sasrec.training import checkpoint, loop, memory, step, training_loss
from sasrec.training.params import TrainParams
from sasrec.training.sampling import PackedSampler

with mock.patch.dict(os.environ):  # the stage sets variables for torch when it is imported
    import evaluate
    import train_gpu

CPU = torch.device("cpu")
SASREC = SasrecParams(5, 16, 2, 1, 0.2, False, 0.02)
TRAIN = training_set(sequences([1, 2, 3], [4, 5], [7, 8, 9, 10, 11]), num_books=30)
NUM_STEPS = 40


def params(**changes: object) -> TrainParams:
    return train_params(**{"batch_size": 8, "num_epochs": 1, **changes})


def stepper(state: step.TrainingState, section: TrainParams) -> Callable[[], torch.Tensor]:
    sampler = PackedSampler(TRAIN, step.batch_spec(section, SASREC.max_len))
    loss_of = training_loss.TrainingLoss(state.model, TRAIN, section)
    return lambda: step.step(state, sampler.draw(state.batch_rng), loss_of)


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("gradient", [math.nan, math.inf, 1e30])  # the square of 1e30 is no float32
def test_the_loss_of_a_step_with_a_gradient_that_is_not_finite_is_nan(gradient: float, clip_norm: float | None) -> None:
    section = params(clip_norm=clip_norm)
    state = step.start(TRAIN, section, SASREC, CPU)
    take_step = stepper(state, section)
    assert take_step().isfinite()
    state.model.position_embedding.weight.register_hook(lambda given: torch.full_like(given, gradient))
    assert take_step().isnan()


@pytest.mark.parametrize(("first_bad", "num_saved"), [(5, None), (11, 10), (13, 10), (20, 10), (21, 20)])
@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_the_first_bad_step_is_named_and_the_last_good_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_bad: int, num_saved: int | None, loss: float
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    state = step.start(TRAIN, params(), SASREC, CPU)
    losses = itertools.chain([0.7] * (first_bad - 1), itertools.repeat(loss))
    with pytest.raises(UserError, match=rf"of step {first_bad} is not finite; lower train.lr, or set train.clip_norm"):
        loop.train_epoch(state, lambda: torch.tensor(next(losses)), NUM_STEPS, tmp_path / "state")
    saved = step.start(TRAIN, params(), SASREC, CPU)
    if num_saved is None:
        assert not (tmp_path / "state").exists()
    else:
        assert checkpoint.restore(tmp_path / "state", saved)
        assert saved.losses == pytest.approx([0.7] * num_saved)


def test_a_rate_that_is_too_high_stops_at_the_step_where_it_first_shows(tmp_path: Path) -> None:
    section = msgspec.structs.replace(params(), lr=1e30)  # more than params.yaml may hold
    take_step = stepper(step.start(TRAIN, section, SASREC, CPU), section)
    losses = [take_step().item() for _ in range(NUM_STEPS)]
    first_bad = next(number for number, loss in enumerate(losses, start=1) if not math.isfinite(loss))
    state = step.start(TRAIN, section, SASREC, CPU)
    with pytest.raises(UserError, match=f"of step {first_bad} is not finite"):
        loop.train_epoch(state, stepper(state, section), NUM_STEPS, tmp_path / "state")


def test_no_checkpoint_holds_weights_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    state = step.start(TRAIN, params(), SASREC, CPU)
    numbers = itertools.count(1)

    def take_step() -> torch.Tensor:
        if next(numbers) == 10:  # the loss is of the weights before the step
            torch.nn.init.constant_(state.model.position_embedding.weight, math.inf)
        return torch.tensor(0.7)

    with pytest.raises(UserError, match="the weights after step 10 are not finite"):
        loop.train_epoch(state, take_step, NUM_STEPS, tmp_path / "state")
    assert not (tmp_path / "state").exists()


def bytes_that_autograd_keeps(sasrec: SasrecParams, section: TrainParams, train: TrainingSet) -> int:
    """What exists at the end of a step's forward pass: the tensors that its gradients need, the mask, and Adam's."""
    state = step.start(train, section, sasrec, CPU)
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    batch = PackedSampler(train, step.batch_spec(section, sasrec.max_len)).draw(state.batch_rng)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = training_loss.TrainingLoss(state.model, train, section)(batch, state.generator)
    weights = sum(parameter.nbytes for parameter in state.model.parameters())
    mask = 4 * len(batch.history) * sasrec.max_len**2
    assert loss.isfinite()
    return sum(storage.nbytes() for storage in kept.values()) + mask + 2 * weights


LONG = training_set(sequences(*[np.arange(1, 301)] * 9, [1, 2]), num_books=400)


@pytest.mark.parametrize("objective", curves.OBJECTIVES)
@pytest.mark.parametrize(
    "sasrec",
    [
        SasrecParams(200, 8, 1, 1, 0.2, False, 0.02),
        SasrecParams(400, 16, 4, 3, 0.0, True, 0.02),
        SasrecParams(3, 64, 2, 4, 0.5, False, 0.02),
        SasrecParams(50, 8, 1, 0, 0.5, False, 0.02),
    ],
)
def test_no_more_memory_is_asked_for_than_a_step_takes(sasrec: SasrecParams, objective: str) -> None:
    section = curves.params_of(objective)
    found = sum(memory.of_training(sasrec, section, LONG.histories, LONG.num_books, CPU).values())
    taken = bytes_that_autograd_keeps(sasrec, section, LONG)
    assert found <= taken
    assert found > 0.1 * taken  # it says something


@pytest.mark.parametrize(
    ("sasrec", "train", "key"),
    [
        ({"max_len": 65536, "num_layers": 1000}, {}, "sasrec.max_len"),
        ({"hidden_units": 65536, "num_layers": 1000}, {}, "sasrec.hidden_units"),
        ({}, {"num_negatives": 2**31 - 1, "negatives": "in_batch"}, "train.num_negatives"),
    ],
)
def test_what_cannot_fit_into_the_memory_is_refused_before_any_work(
    project: Path, monkeypatch: pytest.MonkeyPatch, sasrec: dict[str, object], train: dict[str, object], key: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: CPU)
    monkeypatch.setattr(step, "start", lambda *_: pytest.fail("the model is being built"))
    set_params(project, sasrec=sasrec, train=train)
    with pytest.raises(UserError, match=rf"^params.yaml: training takes at least [0-9]+\.[0-9] GB .* lower {key}$"):
        train_gpu.main()


def test_a_model_that_cannot_be_evaluated_here_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: CPU)
    monkeypatch.setattr(evaluate, "load_model", lambda *_: pytest.fail("the model is being read"))
    sasrec = SasrecParams(65536, 65536, 1, 1000, 0.2, False, 0.02)
    save_config(evaluate.CONFIG, Config(load_config(evaluate.CONFIG).num_books, sasrec))
    with pytest.raises(UserError, match=r"^params.yaml: evaluation takes at least .* lower sasrec.hidden_units$"):
        evaluate.main()


def raise_on_the_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("ask_for_much", [raise_on_the_gpu, lambda: torch.empty(2**56), lambda: np.empty(2**56)])
def test_too_little_memory_names_the_params_that_need_less(
    project: Path, monkeypatch: pytest.MonkeyPatch, ask_for_much: Callable[[], object]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("sasrec.runtime.device.use", lambda *_: CPU)
    monkeypatch.setattr(loop, "step", lambda *_: ask_for_much())
    with pytest.raises(SystemExit) as ended:
        errors.run(train_gpu.main)
    for part in ("memory", "train.batch_size", "sasrec.max_len", "sasrec.hidden_units", "train.num_negatives"):
        assert part in str(ended.value)
    assert "\n" not in str(ended.value)
    assert list((project / "checkpoints/train_gpu").iterdir()) == []


def test_another_error_of_pytorch_is_not_taken_for_too_little_memory() -> None:
    assert not errors.is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
