"""The objectives that train.loss chooses from; each returns the loss of every place, not yet averaged."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sasrec import products

PLACES_PER_CHUNK = 512  # of `softmax`: 512 x 25,000 books x 4 bytes is 51 MB


def bce(positive_logits: Tensor, negative_logits: Tensor) -> Tensor:
    """Return binary cross-entropy with sampled negatives (Kang & McAuley 2018, equation 7), (places,).

    That is -log sigmoid(positive) - sum of log(1 - sigmoid(negative)) over the place's negatives, the last dimension
    of `negative_logits` (places, num_negatives).
    """
    return gbce(positive_logits, negative_logits, sampling_rate=1.0, t=0.0)


def gbce(positive_logits: Tensor, negative_logits: Tensor, sampling_rate: float, t: float) -> Tensor:
    """Return generalised binary cross-entropy (gSASRec, Petrov & Macdonald 2023, equations 19 and 21), (places,).

    Sampling few negatives makes a model overconfident; raising sigmoid(positive) to a power beta <= 1 takes that out.
    `sampling_rate` is the share of the other books that is drawn; `t` from 0 (beta is 1: bce) to 1 (beta is the
    sampling rate: calibrated).
    """
    beta = 1 - t * (1 - sampling_rate)  # the paper's rate * (t * (1 - 1 / rate) + 1 / rate)
    return beta * F.softplus(-positive_logits) + F.softplus(negative_logits).sum(-1)


def sampled_softmax(positive_logits: Tensor, negative_logits: Tensor, is_hit: Tensor, log_expected: Tensor) -> Tensor:
    """Return cross-entropy of the positive among itself and the negatives that all places share, (places,).

    `negative_logits` (places, negatives); `is_hit`, of the same shape, is true where the negative is the place's
    positive and must not count. `log_expected` (negatives,), the logarithm of how often each was expected to be drawn,
    is subtracted from its logit, so that books are not punished for being drawn often (logQ correction, Bengio &
    Senecal 2008; Yi et al. 2019).
    """
    corrected = (negative_logits - log_expected).masked_fill(is_hit, -math.inf)
    return F.softplus(corrected.logsumexp(-1) - positive_logits)  # -log(e^p / (e^p + sum of e^n))


def softmax(features: Tensor, positives: Tensor, item_embedding: Tensor) -> Tensor:
    """Return cross-entropy of the positive in the whole catalogue, (places,), in bounded memory.

    `features` (places, hidden_units), `positives` (places,) int64, `item_embedding` (num_books + 1, hidden_units), of
    which row 0 is the padding's and no book. The logits of PLACES_PER_CHUNK places exist at a time: the backward pass
    computes them again.
    """

    def of_chunk(features: Tensor, positives: Tensor) -> Tensor:
        logits = products.linear(features, item_embedding[1:])  # (chunk, num_books)
        return F.cross_entropy(logits, (positives - 1).clamp(min=0), reduction="none")  # a place without a book: any

    chunks = zip(features.split(PLACES_PER_CHUNK), positives.split(PLACES_PER_CHUNK), strict=True)
    return torch.cat([checkpoint(of_chunk, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])
