import math
from itertools import combinations

import numpy as np
import pytest
import torch
from conftest import sequences

from sasrec.split import transitions
from sasrec.split.sequences import Sequences
from sasrec.training import counts
from sasrec.training.factorisation import Sparse

NUM_BOOKS = 40


def histories(seed: int = 0) -> Sequences:
    """Users who read on from book to book, so that neighbours in number are read together."""
    rng = np.random.default_rng(seed)
    return sequences(*(((start + rng.integers(0, 3, 25).cumsum()) % NUM_BOOKS + 1).tolist() for start in range(60)))


def pairs(given: Sequences) -> Sparse:
    return counts.pairs(transitions.count(given, NUM_BOOKS))


def dense(matrix: Sparse) -> np.ndarray:
    found = np.zeros((NUM_BOOKS + 1, NUM_BOOKS + 1))
    found[matrix.rows, matrix.columns] = matrix.values
    return found


def counted_by_loops(given: Sequences) -> np.ndarray:
    found = np.zeros((NUM_BOOKS + 1, NUM_BOOKS + 1))
    for user in range(len(given)):
        for (i, a), (j, b) in combinations(enumerate(given[user].tolist()), 2):
            if j - i <= 10:
                found[a, b] += 1 / (j - i)
                found[b, a] += 1 / (j - i)
    return found


def test_a_pair_counts_one_over_its_distance_up_to_ten_positions() -> None:
    given = histories()
    assert dense(pairs(given)) / transitions.UNIT == pytest.approx(counted_by_loops(given))


def test_the_information_is_the_positive_logarithm_of_what_a_context_adds() -> None:
    given = histories()
    together = counted_by_loops(given)
    share, smoothed = together.sum(1) / together.sum(), together.sum(1) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.log(together / together.sum() / share[:, None] / (smoothed / smoothed.sum()))
    found = counts.positive_information(pairs(given))
    assert dense(found) == pytest.approx(np.where(together > 0, np.maximum(expected, 0), 0), abs=1e-5)


def started(given: Sequences, num_books: int = NUM_BOOKS, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding before and after the start."""
    before = torch.full((num_books + 1, width), 0.5)
    before[0] = 0
    after = before.clone()
    counts.start(after, transitions.count(given, num_books), torch.Generator().manual_seed(0))
    return before, after


def test_books_read_close_by_are_more_alike_than_others() -> None:
    embedded = torch.nn.functional.normalize(started(histories())[1][1:], dim=1)
    alike = embedded @ embedded.T
    assert alike.diagonal(1).mean() > 0.5
    assert alike.diagonal(NUM_BOOKS // 2).mean() < 0.1


def test_the_start_has_its_standard_deviation() -> None:
    root = started(histories())[1][1:].square().mean().sqrt().item()
    assert math.isclose(root, counts.STD, rel_tol=1e-4)


def test_a_book_without_a_pair_and_padding_keep_their_rows() -> None:
    before, after = started(sequences([1, 2, 3, 1], [5]), num_books=6)
    for row in (0, 4, 5, 6):
        assert torch.equal(after[row], before[row])
    assert not torch.equal(after[1], before[1])


def test_without_any_pair_nothing_changes() -> None:
    before, after = started(sequences([1], [2]))
    assert torch.equal(after, before)


def test_columns_beyond_the_number_of_books_keep_their_values() -> None:
    before, after = started(sequences([1, 2, 3, 1, 2]), num_books=3, width=8)
    assert torch.equal(after[:, 3:], before[:, 3:])
