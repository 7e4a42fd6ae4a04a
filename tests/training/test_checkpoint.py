import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from conftest import sequences, train_params, training_set

from sasrec.model.params import SasrecParams
from sasrec.training import checkpoint, loop, step, training_loss
from sasrec.training.sampling import BatchSpec, PackedSampler
from sasrec.training.step import TrainingState

CPU = torch.device("cpu")
SASREC = SasrecParams(5, 16, 2, 1, 0.2, True, 0.02)
SIZES = BatchSpec(batch_size=8, num_negatives=2, max_len=5, window="last")
TRAIN = training_set(sequences([1, 2, 3], [4, 5], [7, 8, 9, 10, 11]), num_books=30)
PARAMS = train_params(num_negatives=2, lr=0.01, batch_size=8, warmup_steps=5, schedule="cosine", num_epochs=1)


def start(seed: int = 0) -> TrainingState:
    return step.start(TRAIN, msgspec.structs.replace(PARAMS, seed=seed), SASREC, CPU)


def take(state: TrainingState, num_steps: int) -> None:
    sampler, loss_of = PackedSampler(TRAIN, SIZES), training_loss.TrainingLoss(state.model, TRAIN, PARAMS)
    state.losses += [step.step(state, sampler.draw(state.batch_rng), loss_of).item() for _ in range(num_steps)]


@pytest.mark.parametrize("stopped_after", [0, 1, 5, 11])
def test_a_restored_run_ends_with_the_bits_of_an_undisturbed_one(tmp_path: Path, stopped_after: int) -> None:
    undisturbed, killed, resumed = start(), start(), start(seed=1)
    take(undisturbed, 12)
    take(killed, stopped_after)
    killed.curve.append({"NDCG@10": 0.1})
    killed.best = {"weight": torch.arange(3.0)}
    checkpoint.write(tmp_path / "state", killed)
    assert checkpoint.restore(tmp_path / "state", resumed)
    take(resumed, 12 - stopped_after)
    assert resumed.losses == undisturbed.losses
    assert resumed.curve == [{"NDCG@10": 0.1}]
    assert torch.equal(resumed.best["weight"], torch.arange(3.0))
    for mine, other in zip(resumed.model.parameters(), undisturbed.model.parameters(), strict=True):
        assert torch.equal(mine, other)


class KilledError(Exception):
    """Stands for the end of the process."""


def dying(state: TrainingState, num_steps: int) -> Callable[[], torch.Tensor]:
    """What takes `num_steps` steps and no more."""
    sampler, loss_of = PackedSampler(TRAIN, SIZES), training_loss.TrainingLoss(state.model, TRAIN, PARAMS)
    remaining = itertools.count(num_steps, -1)

    def take_step() -> torch.Tensor:
        if next(remaining) == 0:
            raise KilledError
        return step.step(state, sampler.draw(state.batch_rng), loss_of)

    return take_step


def test_an_epoch_that_was_cut_short_is_finished_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    undisturbed, killed, resumed = start(), start(), start(seed=1)
    loop.train_epoch(undisturbed, dying(undisturbed, 37), 37, tmp_path / "undisturbed")
    with pytest.raises(KilledError):
        loop.train_epoch(killed, dying(killed, 26), 37, tmp_path / "state")
    assert checkpoint.restore(tmp_path / "state", resumed)
    assert len(resumed.losses) == 20  # the last checkpoint before the end
    loop.train_epoch(resumed, dying(resumed, 17), 37, tmp_path / "state")
    assert resumed.losses == undisturbed.losses
    for mine, other in zip(resumed.model.parameters(), undisturbed.model.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "other"])
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state"
    state = start()
    take(state, 2)
    checkpoint.write(path, state)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    contents = {"flipped": bytes(content), "cut": path.read_bytes()[:-100], "empty": b"", "other": b"x" * 1000}
    path.write_bytes(contents[damage])
    fresh = start()
    assert not checkpoint.restore(path, fresh)
    assert fresh.losses == []
    for mine, other in zip(fresh.model.parameters(), start().model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_the_key_changes_with_the_code_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "sasrec/checkpoint.py"
    code.parent.mkdir()
    monkeypatch.setattr(checkpoint, "__file__", str(code))
    keys = []
    for content in ("x = 1", "x = 2", "x = 1"):
        code.write_text(content)
        keys.append(checkpoint.key([SASREC, PARAMS], [], CPU))
    assert keys[0] == keys[2] != keys[1]


def test_the_key_changes_with_params_and_inputs(tmp_path: Path) -> None:
    mine = tmp_path / "train"
    mine.write_bytes(b"one")
    first = checkpoint.key([SASREC, PARAMS], [mine], CPU)
    assert checkpoint.key([SASREC, PARAMS], [mine], CPU) == first
    assert checkpoint.key([SASREC, msgspec.structs.replace(PARAMS, seed=1)], [mine], CPU) != first
    mine.write_bytes(b"other")
    assert checkpoint.key([SASREC, PARAMS], [mine], CPU) != first
