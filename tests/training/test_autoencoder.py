import numpy as np
import torch
from conftest import sequences

from sasrec.model.sasrec import AUTOENCODER_RANK
from sasrec.training import autoencoder

NUM_BOOKS = 12
HISTORIES = sequences([1, 2, 3, 1], [2, 3, 4], [5, 6, 7], [6, 7, 8, 9], [1, 4], [10, 11, 5, 9, 2], [3, 4, 1, 2, 10])


def test_the_factors_of_all_singular_vectors_are_ease() -> None:
    read = np.zeros((len(HISTORIES), NUM_BOOKS + 1))
    for user in range(len(HISTORIES)):
        read[user, HISTORIES[user]] = 1  # a book read twice counts once
    inverse = np.linalg.inv(read.T @ read + autoencoder.REGULARISATION * np.eye(NUM_BOOKS + 1))
    ease = -inverse / np.diag(inverse)
    rows = autoencoder.factors(HISTORIES, NUM_BOOKS, torch.Generator().manual_seed(0)).double().numpy()
    found = rows @ rows.T / (1 - (rows**2).sum(1))
    apart = ~np.eye(NUM_BOOKS + 1, dtype=bool)
    np.testing.assert_allclose(found[apart], ease[apart], atol=1e-4 * ease[apart].max())


def test_a_book_that_nobody_read_and_padding_have_no_factors() -> None:
    rows = autoencoder.factors(HISTORIES, NUM_BOOKS, torch.Generator().manual_seed(0))
    assert rows.shape == (NUM_BOOKS + 1, AUTOENCODER_RANK)
    assert rows[[0, 12]].abs().max() == 0
    assert rows[1:12].abs().sum(1).min() > 0


def test_one_user_alone_is_no_fault() -> None:
    rows = autoencoder.factors(sequences([1, 2]), 2, torch.Generator().manual_seed(0))
    assert torch.isfinite(rows).all()
