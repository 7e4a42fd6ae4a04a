"""Both samplers draw the same thing: one in packed rows, the other a history a row."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from conftest import as_lists, sequences, training_set

from sasrec.core.errors import UserError
from sasrec.split.datasets import TrainingSet
from sasrec.training.sampling import Batch, BatchSpec, DeviceSampler, PackedSampler

USERS = sequences([1, 2, 3], [4, 5], [6], [7, 8, 9, 10, 11, 12, 13])
TRAIN = training_set(USERS, num_books=30)
CPU = torch.device("cpu")
MAX_LEN = 5


def packed(batch_size: int, num_negatives: int = 1, train: TrainingSet = TRAIN, window: str = "last") -> Batch:
    return PackedSampler(train, BatchSpec(batch_size, num_negatives, MAX_LEN, window)).draw(np.random.default_rng(0))


def padded(batch_size: int, num_negatives: int = 1, train: TrainingSet = TRAIN, window: str = "last") -> Batch:
    sampler = DeviceSampler(train, BatchSpec(batch_size, num_negatives, MAX_LEN, window), CPU)
    return sampler.draw(torch.Generator().manual_seed(0))


Draw = Callable[..., Batch]
both = pytest.mark.parametrize("draw", [packed, padded])


def histories(batch: Batch) -> Iterator[tuple[list, ...]]:
    """History, positives, negatives and positions of each history in the batch."""
    for row in range(len(batch.history)):
        for segment in set(batch.segments[row].tolist()) - {0}:
            inside = batch.segments[row] == segment
            yield tuple(part[row][inside].tolist() for part in batch[:4])


@both
def test_a_batch_holds_the_latest_books_and_after_each_the_next_one(draw: Draw) -> None:
    drawn = {(tuple(history), tuple(positives)) for history, positives, *_ in histories(draw(64))}
    expected = {((1, 2), (2, 3)), ((4,), (5,)), ((8, 9, 10, 11, 12), (9, 10, 11, 12, 13))}
    assert drawn == expected  # a user with one book has no pair to learn


@both
def test_a_random_window_starts_anywhere_in_a_long_history(draw: Draw) -> None:
    drawn = [tuple(history) for history, *_ in histories(draw(6000, window="random"))]
    counts = {history: drawn.count(history) for history in set(drawn)}
    assert set(counts) == {(1, 2), (4,), (7, 8, 9, 10, 11), (8, 9, 10, 11, 12)}
    assert counts[7, 8, 9, 10, 11] == pytest.approx(1000, abs=110)  # a third of the users, half of its windows
    assert counts[8, 9, 10, 11, 12] == pytest.approx(1000, abs=110)


@both
def test_a_batch_has_as_many_histories_as_asked_for(draw: Draw) -> None:
    assert len(list(histories(draw(64)))) == 64


@both
def test_the_last_place_of_a_history_has_the_last_position(draw: Draw) -> None:
    for history, _, _, positions in histories(draw(64)):
        assert positions == list(range(MAX_LEN - len(history), MAX_LEN))


@both
def test_negatives_stand_beside_every_book_and_were_never_read(draw: Draw) -> None:
    for history, positives, negatives, _ in histories(draw(64, num_negatives=7)):
        read = next(set(books) for books in as_lists(USERS) if positives[-1] in books)
        assert np.shape(negatives) == (len(history), 7)
        assert all(1 <= each <= 30 and each not in read for drawn in negatives for each in drawn)


@both
def test_negatives_are_uniform_over_what_was_never_read(draw: Draw) -> None:
    batch = draw(30_000)
    of_second = batch.negatives[batch.history == 4]  # that user has one pair and read 4 and 5
    counts = np.bincount(of_second.flatten(), minlength=31)
    expected = len(of_second) / 28
    unread = np.setdiff1d(np.arange(1, 31), [4, 5])
    assert counts.sum() == counts[unread].sum()
    assert ((counts[unread] - expected) ** 2 / expected).sum() < 55.5  # chi-square of 27 degrees, 0.999 quantile


@both
def test_users_are_drawn_uniformly_with_replacement(draw: Draw) -> None:
    history = draw(30_000).history
    counts = [(history == book).sum().item() for book in (2, 4, 12)]  # each user's last book with a next one
    assert sum(counts) == 30_000
    assert max(abs(count - 10_000) for count in counts) < 300  # 3.7 standard deviations


@both
def test_places_without_a_book_hold_zeros(draw: Draw) -> None:
    batch = draw(3, num_negatives=2)
    is_padding = batch.segments == 0
    assert is_padding.any()
    assert not any(part[is_padding].any() for part in batch[:3])


def test_packing_leaves_few_rows() -> None:
    num_pairs = sum(len(history) for history, *_ in histories(packed(64)))
    assert len(packed(64).history) == -(-num_pairs // MAX_LEN)  # histories of 1, 2 and 5 fill rows of 5


@both
def test_nothing_to_learn_from_is_an_error(draw: Draw) -> None:
    read_all = training_set(sequences([1], [1, 2, 3]), num_books=3)
    with pytest.raises(UserError, match="the training set has no user with two books and an unread one"):
        draw(64, train=read_all)
