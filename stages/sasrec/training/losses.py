"""The losses that train.loss chooses from. A new loss is a function, a row of FUNCTIONS, and one of `params.LOSSES`.

Each function returns the loss of every position, (positions,), not yet averaged. They use F.logsigmoid: the last bit of
F.softplus depends on where PyTorch divides the elements among its threads.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sasrec.model import matmul

POSITIONS_PER_CHUNK = 512  # in `softmax`: 512 x 25,000 books x 4 bytes = 51 MB


class OwnLogits(NamedTuple):
    """The logits of each position's positive, and of negatives drawn for that position."""

    positives: Tensor  # (positions,)
    negatives: Tensor  # (positions, num_negatives)
    sampling_rate: float  # the fraction of the other books that is drawn: num_negatives / (num_books - 1)
    calibration: float  # train.gbce_t


class Shared(NamedTuple):
    """The positive's logit and the features of each position, and negatives that all positions share."""

    positives: Tensor  # (positions,)
    features: Tensor  # (positions, hidden_units)
    negatives: Tensor  # (num_negatives, hidden_units): their embeddings
    offsets: Tensor  # (num_negatives,): added to each position's logit of a negative
    hits: Tensor  # (positions,) int64: the one negative that may be the positive
    hit_offsets: Tensor  # (positions,): added to that negative's logit; far below 0 if it is the positive


class Catalogue(NamedTuple):
    """The features and positive of each position, and all embeddings; their logits need too much memory at once."""

    features: Tensor  # (positions, hidden_units)
    positives: Tensor  # (positions,) int64: 0 where a position holds no book
    item_embedding: Tensor  # (num_books + 1, hidden_units): row 0 is padding


def bce(logits: OwnLogits) -> Tensor:
    """Return binary cross-entropy with sampled negatives (Kang & McAuley 2018, equation 7), (positions,).

    The loss is -log sigmoid(positive) - sum of log(1 - sigmoid(negative)) over the position's negatives.
    """
    return -F.logsigmoid(logits.positives) - F.logsigmoid(-logits.negatives).sum(-1)


def gbce(logits: OwnLogits) -> Tensor:
    """Return generalised binary cross-entropy (gSASRec, Petrov & Macdonald 2023, equations 19 and 21), (positions,).

    Few negatives make a model overconfident. Raising sigmoid(positive) to a power beta <= 1 corrects that. Calibration
    0 makes beta 1 (bce); 1 makes it the sampling rate.
    """
    # This equals the paper's rate * (t * (1 - 1 / rate) + 1 / rate).
    beta = 1 - logits.calibration * (1 - logits.sampling_rate)
    return -beta * F.logsigmoid(logits.positives) - F.logsigmoid(-logits.negatives).sum(-1)


def sampled_softmax(shared: Shared) -> Tensor:
    """Return cross-entropy of the positive among itself and the shared negatives, (positions,).

    The offsets are the logQ correction (Bengio & Senecal 2008; Yi et al. 2019): they subtract the log of a negative's
    expected number of draws, so that books drawn often are not penalised for it.
    """
    positives, *others = shared
    log_sum: Tensor = _LogSumExp.apply(*others)
    return -F.logsigmoid(positives - log_sum)  # -log(e^p / (e^p + sum of e^n))


class _LogSumExp(torch.autograd.Function):
    """The logarithm of the sum of the negatives' exponentials, (positions,).

    PyTorch's operators would compute each exponential again for the gradient, and pass the matrix four times more.
    """

    @staticmethod
    def forward(
        context: matmul.Context, features: Tensor, negatives: Tensor, offsets: Tensor, hits: Tensor, hit_offsets: Tensor
    ) -> Tensor:
        logits = matmul.linear(features, negatives, offsets).float()  # (positions, num_negatives)
        logits.scatter_add_(1, hits[:, None], hit_offsets[:, None])
        largest = logits.amax(-1)  # (positions,)
        shares = torch.softmax(logits, -1, out=logits)  # (positions, num_negatives), in place: they are 26 MB
        context.save_for_backward(features, negatives, shares)
        return largest - shares.amax(-1).log()  # the largest share is exp(the largest logit) / the sum

    @staticmethod
    @once_differentiable
    def backward(context: matmul.Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, negatives, shares = context.saved_tensors
        gradient = gradient[:, None]
        of_features = matmul.linear(shares, negatives.T) * gradient  # (positions, hidden_units)
        of_negatives = matmul.linear((features * gradient).T, shares.T).T  # (num_negatives, hidden_units)
        return of_features, of_negatives, None, None, None


def softmax(catalogue: Catalogue) -> Tensor:
    """Return cross-entropy of the positive among all books, (positions,), in bounded memory.

    Only the logits of POSITIONS_PER_CHUNK positions exist at a time; the backward pass recomputes them.
    """

    def of_chunk(features: Tensor, positives: Tensor) -> Tensor:
        logits = matmul.linear(features, catalogue.item_embedding[1:])  # (chunk, num_books)
        return F.cross_entropy(logits, (positives - 1).clamp(min=0), reduction="none")  # no book: any target

    features, positives, _item_embedding = catalogue
    chunks = zip(features.split(POSITIONS_PER_CHUNK), positives.split(POSITIONS_PER_CHUNK), strict=True)
    return torch.cat([checkpoint(of_chunk, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])


FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "bce": bce,
    "gbce": gbce,
    "sampled_softmax": sampled_softmax,
    "softmax": softmax,
}
"""The losses by their names in train.loss. Each takes what `params.LOSSES` names: OwnLogits, Shared or Catalogue."""
