"""A linear autoencoder of histories: which books have the same users, whatever the order.

EASE (Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", equation 8) scores book b for a history as the
sum, over its books a, of -P[a, b] / P[b, b], with P = (X.T @ X + l I)^-1 for the users x books matrix X of ones and
zeros. P needs the square of the catalogue. With the leading singular values s and right vectors V of X alone,
P = (I - V diag(d) V.T) / l with d = s^2 / (s^2 + l): then the rows of F = V diag(sqrt(d)) tell all, and book b scores
the sum of F[a] . F[b] / (1 - F[b] . F[b]).
"""

import numpy as np
import torch
from torch import Tensor

from sasrec.model.sasrec import AUTOENCODER_RANK
from sasrec.split.sequences import Sequences
from sasrec.training.factorisation import Sparse, factorise

REGULARISATION = 200.0  # l; 50 was no better on the validation users


def factors(histories: Sequences, num_books: int, generator: torch.Generator) -> Tensor:
    """Return F, (num_books + 1, AUTOENCODER_RANK) float32 on the CPU; where X has fewer columns, the last are 0."""
    left, singular = factorise(readers(histories, num_books), AUTOENCODER_RANK, generator)
    squares = singular.double().numpy() ** 2
    damping = np.sqrt(squares / (squares + REGULARISATION))  # numpy rounds a root correctly, PyTorch's MKL does not
    found = torch.zeros(num_books + 1, AUTOENCODER_RANK)
    found[:, : left.shape[1]] = left * torch.from_numpy(damping).float()
    return found


def readers(histories: Sequences, num_books: int) -> Sparse:
    """Return X.T, (num_books + 1, users): 1 where a user has read the book, however often."""
    num_users = len(histories)
    users = np.repeat(np.arange(num_users), histories.lengths)
    pairs = np.sort(histories.items.astype(np.int64) * num_users + users)  # by book, then by user
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # np.unique would hash them first, and take thirty times as long
    starts = np.searchsorted(pairs, np.arange(num_books + 2) * num_users)
    return Sparse(torch.from_numpy(starts), torch.from_numpy(pairs % num_users), torch.ones(len(pairs)), num_users)
