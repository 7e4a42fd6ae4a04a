"""The feed-forward layer (equation 4 of the paper), with dropout."""

from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sasrec.model import matmul
from sasrec.model.dropout import RandomBytes, draw_mask, dropout


def transform(
    x: Tensor,
    inner: tuple[Tensor, Tensor],
    outer: tuple[Tensor, Tensor],
    rate: float,
    random_bytes: RandomBytes | None,
) -> Tensor:
    """Return outer(dropout(relu(inner(x)))), (..., width), for x (..., width); a layer is its weight and its bias."""
    if not matmul.is_plain(x):
        return F.linear(dropout(F.relu(F.linear(x, *inner)), rate, random_bytes), *outer)
    kept, scale = draw_mask(x.shape, x.device, rate, random_bytes)
    transformed: Tensor = _Transform.apply(x, *inner, *outer, kept, scale)
    return transformed


class _Context(matmul.Context, Protocol):
    scale: float


class _Transform(torch.autograd.Function):
    """`transform` on the CPU, with its gradient.

    The dropout's scale is on the outer weight, which is small. What is 0 after the dropout has no gradient, whether
    the ReLU or the mask made it so: no mask is kept.
    """

    @staticmethod
    def forward(
        context: _Context,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        outer_weight: Tensor,
        outer_bias: Tensor,
        kept: Tensor | None,
        scale: float,
    ) -> Tensor:
        hidden = matmul.product(x.flatten(0, -2), weight, bias).relu_()  # (positions, width)
        if kept is not None:
            hidden.mul_(kept.view(hidden.shape).to(hidden.dtype))
        context.save_for_backward(x, weight, outer_weight, hidden)
        context.scale = scale
        return matmul.product(hidden, outer_weight * scale, outer_bias).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(context: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, outer_weight, hidden = context.saved_tensors
        rows, gradient = x.flatten(0, -2), gradient.flatten(0, -2)  # (positions, width)
        of_hidden = matmul.product(gradient, outer_weight.T * context.scale)
        torch.ops.aten.threshold_backward.grad_input(of_hidden, hidden, 0, grad_input=of_hidden)
        return (
            matmul.product(of_hidden, weight.T).view(x.shape),
            matmul.weight_gradient(rows, of_hidden),
            matmul.column_sums(of_hidden),
            matmul.weight_gradient(hidden, gradient).mul_(context.scale),
            matmul.column_sums(gradient),
            None,
            None,
        )
