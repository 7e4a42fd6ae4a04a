"""What is recommended, whether right or not: counted while it is ranked, against a plain loop."""

import math

import numpy as np
import pytest
import torch
from conftest import sequences, training_set

from sasrec.evaluation import ranking, recommended
from sasrec.runtime.world import ALONE
from sasrec.split.datasets import HeldOut

NUM_BOOKS = 12


def held_out(*histories: list[int], true_books: list[int]) -> HeldOut:
    negatives = np.full((len(histories), 1), NUM_BOOKS, np.int32)
    return HeldOut(np.arange(len(histories)), sequences(*histories), np.array(true_books, np.int32), negatives)


def counts_of(task: HeldOut, scores: torch.Tensor, k: int) -> list[int]:
    counted = recommended.Counted(lambda _histories: lambda users: scores[users], task, NUM_BOOKS, k)
    ranking.rank(task, counted, ALONE)
    return counted.counts.tolist()


def test_each_user_counts_the_first_k_books_outside_the_history() -> None:
    rng = np.random.default_rng(0)
    histories = [rng.choice(np.arange(1, NUM_BOOKS), 4, replace=False).tolist() for _ in range(70)]
    scores = torch.from_numpy(rng.integers(0, 5, (70, NUM_BOOKS + 1))).float()  # many are equal
    expected = [0] * (NUM_BOOKS + 1)
    for history, row in zip(histories, scores.tolist(), strict=True):
        left = [book for book in range(1, NUM_BOOKS + 1) if book not in history]
        for book in sorted(left, key=lambda book: (-row[book], book))[:3]:
            expected[book] += 1
    task = held_out(*histories, true_books=[NUM_BOOKS] * 70)
    assert counts_of(task, scores, k=3) == expected


def test_a_true_book_that_is_a_re_read_can_be_recommended() -> None:
    scores = torch.arange(NUM_BOOKS + 1.0)[None]
    assert counts_of(held_out([12, 11], true_books=[11]), scores, k=1)[11] == 1


def test_where_fewer_books_are_left_than_k_only_they_are_counted() -> None:
    task = held_out(list(range(1, 12)), true_books=[12])
    assert counts_of(task, torch.zeros(1, NUM_BOOKS + 1), k=5) == [0] * 12 + [1]


def test_counting_changes_no_rank() -> None:
    task = held_out([1], [2], true_books=[5, 6])
    scores = torch.rand(2, NUM_BOOKS + 1, generator=torch.Generator().manual_seed(0))
    plain = ranking.rank(task, lambda _histories: lambda users: scores[users])
    counted = recommended.Counted(lambda _histories: lambda users: scores[users], task, NUM_BOOKS, 3)
    assert [part.tolist() for part in ranking.rank(task, counted)] == [part.tolist() for part in plain]


def test_the_figures_by_hand() -> None:
    train = training_set(sequences([1, 2], [1, 2], [1, 3], [1, 2]), num_books=4)  # 4, 3, 1 and 0 of 8 ratings
    counts = {"sasrec": np.array([0, 3, 0, 1, 0])}  # book 1 three times, book 3 once
    assert recommended.summary(counts, train, np.array([2, 4]), k=2) == {
        "sasrec": {
            "novelty@2": pytest.approx((3 * 1 + 3) / 4),  # -log2(4 / 8) is 1, -log2(1 / 8) is 3
            "popularity@2": pytest.approx((3 * 4 + 1) / 4),
            "coverage@2": pytest.approx(2 / 4),
            "gini@2": pytest.approx(0.625),  # mean difference of 0, 0, 1, 3 over twice their mean: 20 / 16 / 2
        },
        "true_books": {
            "novelty": pytest.approx((math.log2(8 / 3) + 3) / 2, abs=1e-8),  # a book without ratings counts as one
            "popularity": pytest.approx((3 + 0) / 2),
        },
    }


@pytest.mark.parametrize("times", [[1, 1, 1, 1], [0, 0, 0, 9], [5, 2, 0, 1, 1, 7]])
def test_gini_is_half_the_relative_mean_difference(times: list[int]) -> None:
    differences = [abs(one - other) for one in times for other in times]
    mean = sum(times) / len(times)
    expected = sum(differences) / len(differences) / mean / 2
    assert recommended.gini(np.array(times) / sum(times)) == pytest.approx(expected)
