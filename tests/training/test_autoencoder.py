import numpy as np
import pytest
import torch
from conftest import sequences

from sasrec.model.autoencoder import Autoencoder
from sasrec.split.sequences import Sequences
from sasrec.training import autoencoder

NUM_BOOKS = 12  # the last one has no user
HISTORIES = sequences([1, 2, 3, 1], [2, 3, 4], [5, 6, 7], [6, 7, 8, 9], [1, 4], [10, 11, 5, 9, 2], [3, 4, 1, 2, 10])
READ = np.zeros((len(HISTORIES), NUM_BOOKS + 1))
for user in range(len(HISTORIES)):
    READ[user, HISTORIES[user]] = 1  # a book read twice counts once


def fitted(histories: Sequences, num_books: int) -> Autoencoder:
    found = Autoencoder(num_books, num_inputs=0)
    found.rows.fill_(-1)
    autoencoder.fit(found, histories)
    return found


def ease(read: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(read.T @ read + autoencoder.REGULARISATION * np.eye(read.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def test_the_weights_of_a_small_catalogue_are_ease() -> None:
    found, expected = fitted(HISTORIES, NUM_BOOKS), ease(READ)
    assert sorted(found.rows.tolist()) == [-1, *range(NUM_BOOKS)]  # padding has none
    np.testing.assert_allclose(found.weight[found.rows[1:]], expected[1:], atol=1e-5 * expected.max())


def test_in_a_large_catalogue_the_most_read_books_are_the_inputs_and_predict_the_others_by_ridge_regression(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(autoencoder, "MOST_WEIGHTS", 5 * (NUM_BOOKS + 1))
    found, inputs = fitted(HISTORIES, NUM_BOOKS), [1, 2, 3, 4, 5]  # 3, 4, 3, 3 and 2 users; 5 is the first with 2
    others = [book for book in range(NUM_BOOKS + 1) if book not in inputs]
    assert np.flatnonzero(found.rows.numpy() >= 0).tolist() == inputs
    rows, x = found.weight[found.rows[inputs]], READ[:, inputs]
    ridge = np.linalg.solve(x.T @ x + autoencoder.REGULARISATION * np.eye(5), x.T @ READ[:, others])
    np.testing.assert_allclose(rows[:, inputs], ease(x), atol=1e-7)
    np.testing.assert_allclose(rows[:, others], ridge, atol=1e-7)


def test_one_user_alone_is_no_fault() -> None:
    assert torch.isfinite(fitted(sequences([1, 2]), 2).weight).all()


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_the_inverse_is_that_of_lapack(size: int) -> None:
    factor = np.random.default_rng(size).normal(size=(size, size))
    matrix = factor @ factor.T / size + np.eye(size)
    found = autoencoder.inverse(torch.from_numpy(matrix).float())
    np.testing.assert_allclose(found, np.linalg.inv(matrix), atol=1e-5)
