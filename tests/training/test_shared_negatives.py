import math

import numpy as np
import pytest
import torch
from conftest import sequences, training_set

from sasrec.training import shared_negatives
from sasrec.training.shared_negatives import EXCLUDED, InBatch, Uniform


def test_a_book_drawn_three_times_counts_three_times_in_one_place() -> None:
    merged = shared_negatives.merge(torch.tensor([7, 4, 7, 7]), torch.full((4,), math.log(0.5)))
    assert merged.books.tolist() == [4, 7, 7, 7]
    assert merged.offsets.exp().tolist() == pytest.approx([1 / 0.5, 3 / 0.5, 0, 0])


def test_padding_does_not_count() -> None:
    merged = shared_negatives.merge(torch.tensor([0, 4]), torch.zeros(2))
    assert merged.offsets.tolist() == [-EXCLUDED, 0]


def test_each_correction_stays_with_its_book() -> None:
    merged = shared_negatives.merge(torch.tensor([9, 2]), torch.tensor([0.9, 0.2]))
    assert merged.books.tolist() == [2, 9]
    assert (-merged.offsets).tolist() == pytest.approx([0.2, 0.9])


def test_a_positive_is_found_where_its_negative_counts() -> None:
    merged = shared_negatives.merge(torch.tensor([5, 3, 5]), torch.zeros(3))
    places, offsets = merged.find(torch.tensor([3, 5, 4, 9]))
    assert offsets.tolist() == [-EXCLUDED, -EXCLUDED, 0, 0]
    assert merged.offsets[places[:2]].tolist() == pytest.approx([0, math.log(2)])


def test_uniform_draws_every_book_as_often() -> None:
    draw, generator = Uniform(num_negatives=3, num_books=4), torch.Generator().manual_seed(0)
    drawn = sum(draw(torch.zeros(1, 1), generator).books.bincount(minlength=5) for _ in range(1000)).tolist()
    assert drawn[0] == 0
    assert drawn[1:] == pytest.approx([750] * 4, rel=0.1)


def test_uniform_takes_every_book_once_where_there_are_no_more_than_negatives() -> None:
    merged = Uniform(num_negatives=9, num_books=4)(torch.zeros(1, 1), torch.Generator())
    assert merged.books.tolist() == [1, 2, 3, 4]
    assert merged.offsets.tolist() == [0, 0, 0, 0]


def test_in_batch_draws_positives_and_corrects_by_their_popularity() -> None:
    train = training_set(sequences([1, 1, 1, 2]), num_books=3)
    draw = InBatch(num_negatives=2, train=train, device=torch.device("cpu"))
    merged = draw(torch.tensor([[2, 2]]), torch.Generator().manual_seed(0))
    expected = 2 * np.array(1 / 4)  # two draws, and a fourth of the ratings
    assert merged.books.tolist() == [2, 2]
    assert merged.offsets[0].item() == pytest.approx(math.log(2 / expected))
