"""The objectives that train.loss chooses from."""

from torch import Tensor
from torch.nn import functional as F


def bce(positive_logits: Tensor, negative_logits: Tensor) -> Tensor:
    """Return binary cross-entropy with sampled negatives (Kang & McAuley 2018, equation 7), of the positives' shape.

    That is -log sigmoid(positive) - sum of log(1 - sigmoid(negative)) over its negatives, the last dimension of
    `negative_logits`.
    """
    return F.softplus(-positive_logits) + F.softplus(negative_logits).sum(-1)
