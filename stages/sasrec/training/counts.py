"""Item embeddings that start from counts: which books stand near which in the training histories.

The positive pointwise mutual information of the pairs is factorised (Levy & Goldberg 2014, "Neural Word Embedding as
Implicit Matrix Factorization").
"""

import math

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sasrec.split.transitions import Transitions
from sasrec.training.factorisation import Sparse, factorise

CONTEXT_POWER = 0.75  # of a context's count (Levy, Goldberg & Dagan 2015), so that rare contexts weigh less
STD = 0.1  # of the embeddings; 0.05 and 0.2 were no better on the validation users


def start(embedding: Tensor, transitions: Transitions, generator: torch.Generator) -> None:
    """Overwrite `embedding`, (num_books + 1, width) float32 on the CPU, so that books read near each other are similar.

    The result has the scale STD. A book without a pair keeps its row; so does padding, and so do columns beyond the
    number of books.
    """
    width = embedding.shape[1]
    left, roots = factorise(positive_information(pairs(transitions)), width, generator)
    # PyTorch takes a root from a library of MKL, whose last bit depends on the processor; numpy rounds correctly.
    factors = left * torch.from_numpy(np.sqrt(roots.numpy()))  # (num_books + 1, min(width, num_books))
    mean_square = math.fsum(factors.double().square().flatten().tolist()) / factors[1:].numel()
    if mean_square:
        has_pair = (factors != 0).any(1, keepdim=True)
        scaled = factors * (STD / math.sqrt(mean_square))
        embedding[:, : factors.shape[1]] = torch.where(has_pair, scaled, embedding[:, : factors.shape[1]])


def pairs(transitions: Transitions) -> Sparse:
    """Return how near each other two books are read: their transitions in both directions, int64."""
    shape = (transitions.num_books + 1,) * 2
    forward = scipy.sparse.csr_array((transitions.weights, transitions.books, transitions.starts), shape)
    both = forward + forward.T.tocsr()
    starts, columns, values = (torch.from_numpy(each).long() for each in (both.indptr, both.indices, both.data))
    return Sparse(starts, columns, values, len(starts) - 1)


def positive_information(counts: Sparse) -> Sparse:
    """Return max(0, log(P(a, b) / (P(a) P'(b)))) of each pair, float32; P' is P to CONTEXT_POWER, normalised."""
    rows = counts.rows
    totals = torch.zeros(len(counts.starts) - 1, dtype=torch.int64).index_add_(0, rows, counts.values)  # whole: exact
    logs = totals.clamp(min=1).double().log()
    smoothed = (CONTEXT_POWER * logs).exp() * (totals > 0)
    log_total = math.log(math.fsum(smoothed.tolist()) or 1.0)
    values = counts.values.double().log() - logs[rows] - CONTEXT_POWER * logs[counts.columns] + log_total
    return counts._replace(values=values.clamp(min=0).float())
