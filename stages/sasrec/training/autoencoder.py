"""Fits the linear autoencoder: EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", equation 8).

In portable mode each sum has one order on every processor: the counts are whole numbers, dense products come from
`matmul`, and no function of LAPACK is called.
"""

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sasrec.model import matmul
from sasrec.model.autoencoder import Autoencoder
from sasrec.split.sequences import Sequences

REGULARISATION = 100.0  # 50 and 200 were no better on the validation users
MOST_WEIGHTS = 2**22  # 16 MB: all books are inputs in a catalogue of up to 2,047, else those that most users read
BLOCK = 64  # columns that `inverse` eliminates at once


def fit(autoencoder: Autoencoder, histories: Sequences) -> None:
    """Give `autoencoder` the weights that predict each book of a history best from the history's other books."""
    num_books = len(autoencoder.rows) - 1
    read = _who_read_what(histories, num_books)
    num_readers = np.bincount(read.indices, minlength=num_books + 1)[1:]
    most_read = np.argsort(-num_readers, kind="stable")[: MOST_WEIGHTS // (num_books + 1)] + 1
    together = torch.from_numpy((read[:, most_read].T @ read).toarray())  # (num_inputs, num_books + 1)
    inputs, rows = torch.from_numpy(most_read), torch.full((num_books + 1,), -1)
    rows[inputs] = torch.arange(len(inputs))
    autoencoder.rows.copy_(rows)
    weights = _weights(together, inputs).contiguous()  # scipy's columns are in one piece; `embedding_bag` adds up rows
    autoencoder.weight = weights.to(autoencoder.rows.device)


def _who_read_what(histories: Sequences, num_books: int) -> scipy.sparse.csr_array:
    """Return (users, num_books + 1) float32: 1 where a user has read the book, however often."""
    users = np.repeat(np.arange(len(histories)), histories.lengths)
    ones = np.ones(len(users), np.float32)
    read = scipy.sparse.csr_array((ones, (users, histories.items)), (len(histories), num_books + 1))  # adds up re-reads
    read.data[:] = 1
    return read


def _weights(together: Tensor, inputs: Tensor) -> Tensor:
    """Return the weights, (num_inputs, num_books + 1), from how many users read each input and each book together.

    No input predicts itself. A book that is no input needs no such constraint, so it has those of ridge regression.
    """
    gram = together[:, inputs]  # (num_inputs, num_inputs)
    precision = inverse(gram + REGULARISATION * torch.eye(len(gram)))
    is_other = torch.ones(together.shape[1], dtype=torch.bool)
    is_other[inputs] = False
    weights = torch.empty_like(together)
    weights[:, is_other] = matmul.linear(precision, together[:, is_other].T)
    weights[:, inputs] = -precision / precision.diagonal()
    weights[torch.arange(len(inputs)), inputs] = 0
    return weights


def inverse(a: Tensor) -> Tensor:
    """Return the inverse of a symmetric positive definite matrix, (size, size) float32.

    The sweep operator (Goodnight 1979, "A Tutorial on the SWEEP Operator") eliminates BLOCK columns at once.
    """
    a = a.clone()
    for start in range(0, len(a), BLOCK):
        swept = slice(start, start + BLOCK)
        columns = a[:, swept].clone()  # (size, BLOCK)
        pivot = torch.from_numpy(_inverse(a[swept, swept].double().numpy())).float()
        scaled = matmul.linear(columns, pivot)  # (size, BLOCK)
        a = matmul.add_product(a, -scaled, columns)
        a[:, swept], a[swept] = scaled, scaled.T
        a[swept, swept] = -pivot
    return -a


def _inverse(a: np.ndarray) -> np.ndarray:
    """Return the inverse of a symmetric positive definite matrix, (size, size) float64; `a` is overwritten.

    It sweeps one column at a time, in numpy, which rounds each element's product and difference on their own.
    """
    for i in range(len(a)):
        column = a[:, i].copy()
        scaled = column / column[i]
        a -= np.outer(scaled, column)
        a[:, i], a[i] = scaled, scaled
        a[i, i] = -1 / column[i]
    return -a
