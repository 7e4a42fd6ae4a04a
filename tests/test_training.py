import math

import numpy as np
import pytest
import torch
from conftest import as_lists, sequences

from sasrec import device, losses, training
from sasrec.errors import UserError
from sasrec.holdout import TrainingSet
from sasrec.model import SasrecParams
from sasrec.training import Sampler, TrainParams

SASREC = SasrecParams(
    max_len=5, hidden_units=16, num_heads=1, num_layers=1, dropout_rate=0.2, norm_first=False, init_std=0.02
)
READERS = sequences([1, 2, 3], [4, 5], [6], [7, 8, 9, 10, 11, 12, 13])
TRAIN = TrainingSet(READERS, num_readers=4, num_books=30)


def params(batch_size: int = 64, num_negatives: int = 1, seed: int = 0) -> TrainParams:
    return TrainParams("bce", num_negatives, "last", 0.01, batch_size, 1, seed, "cpu", 2, "portable")


def draw(num_negatives: int = 1) -> training.Batch:
    return Sampler(TRAIN, params(num_negatives=num_negatives), SASREC.max_len).draw(np.random.default_rng(0))


def test_a_batch_holds_the_latest_books_and_after_each_the_next_one() -> None:
    expected = {
        (0, 0, 0, 1, 2): (0, 0, 0, 2, 3),
        (0, 0, 0, 0, 4): (0, 0, 0, 0, 5),
        (8, 9, 10, 11, 12): (9, 10, 11, 12, 13),
    }
    batch = draw()
    drawn = {tuple(h): tuple(p) for h, p in zip(batch.history.tolist(), batch.positives.tolist(), strict=True)}
    assert drawn == expected  # a reader with one book has no pair to learn


def test_negatives_stand_beside_every_book_and_were_never_read() -> None:
    batch = draw(num_negatives=7)
    assert batch.negatives.shape == (64, 5, 7)
    for history, positives, negatives in zip(*(part.tolist() for part in batch), strict=True):
        read = next(set(books) for books in as_lists(READERS) if positives[-1] in books)
        for book, drawn in zip(history, negatives, strict=True):
            assert all(1 <= each <= 30 and each not in read for each in drawn) if book else set(drawn) == {0}


def test_readers_are_drawn_uniformly_with_replacement() -> None:
    sampler = Sampler(TRAIN, params(batch_size=30_000), SASREC.max_len)
    last = sampler.draw(np.random.default_rng(0)).positives[:, -1]
    counts = [(last == book).sum().item() for book in (3, 5, 13)]
    assert sum(counts) == 30_000
    assert max(abs(count - 10_000) for count in counts) < 300  # 3.7 standard deviations


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(UserError, match="no reader has two books and an unread one"):
        Sampler(TrainingSet(sequences([1], [1, 2, 3]), 2, num_books=3), params(), SASREC.max_len)


def test_bce_is_the_papers_formula() -> None:
    positive, negative = [0.5, -2.0], [[1.0, 0.0, -1.0], [3.0, 0.1, 0.2]]

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    terms = [
        -math.log(sigmoid(p)) - sum(math.log(1 - sigmoid(n)) for n in row)
        for p, row in zip(positive, negative, strict=True)
    ]
    loss = losses.bce(torch.tensor(positive), torch.tensor(negative))
    assert loss.item() == pytest.approx(sum(terms) / 2)


def test_padded_places_do_not_count_in_the_loss() -> None:
    state = training.start(TRAIN, params(), SASREC, torch.device("cpu"))
    network = state.model.requires_grad_(False)
    items = network.item_embedding.weight
    batch = training.Batch(
        torch.tensor([[0, 0, 0, 1, 2]]), torch.tensor([[0, 0, 0, 2, 3]]), torch.tensor([[[0], [0], [0], [9], [8]]])
    )
    features = network(batch.history)[0]
    pairs = [(features[3], 2, 9), (features[4], 3, 8)]
    terms = [torch.log1p(torch.exp(-f @ items[p])) + torch.log1p(torch.exp(f @ items[n])) for f, p, n in pairs]
    assert training.batch_loss(network, batch, None).item() == pytest.approx(float(sum(terms)) / 2, rel=1e-5)


def train(seed: int, num_steps: int = 60) -> tuple[list[float], torch.Tensor]:
    state = training.start(TRAIN, params(seed=seed), SASREC, torch.device("cpu"))
    sampler = Sampler(TRAIN, params(), SASREC.max_len)
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


@pytest.mark.cuda
def test_two_runs_on_cuda_end_with_the_same_bits() -> None:
    where = device.use("cuda", 2)
    ends = []
    for _ in range(2):
        state = training.start(TRAIN, params(), SASREC, where)
        sampler = Sampler(TRAIN, params(), SASREC.max_len)
        for _ in range(20):
            training.step(state, sampler.draw(state.batch_rng))
        ends.append(state.model.item_embedding.weight.detach())
    assert torch.equal(*ends)


@pytest.mark.cuda
def test_a_step_on_cuda_starts_from_the_cpus_loss() -> None:
    batch = draw()
    on_cpu, on_cuda = (training.start(TRAIN, params(), SASREC, torch.device(name)) for name in ("cpu", "cuda"))
    expected = training.batch_loss(on_cpu.model, batch, None)
    torch.testing.assert_close(training.batch_loss(on_cuda.model, batch, None).cpu(), expected)
    assert torch.isfinite(training.step(on_cuda, batch))
