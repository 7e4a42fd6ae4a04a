"""LayerNorm and softmax whose gradients, in portable mode, do not depend on the number of threads.

PyTorch's LayerNorm gives each thread some rows, adds up the gradient of the weights there, and then adds up the
threads. Its gradient of a softmax rounds otherwise with one thread than with several.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sasrec.model import matmul


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Return x, (..., width), with mean 0 and variance 1 over its last dimension, times weight plus bias (width,)."""
    if not matmul.is_portable(x):
        return F.layer_norm(x, weight.shape, weight, bias, eps)
    normalised: Tensor = _LayerNorm.apply(x, weight, bias, eps)
    return normalised


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax of `scores` over their last dimension."""
    if not matmul.is_portable(scores):
        return scores.softmax(-1)
    weights: Tensor = _Softmax.apply(scores)
    return weights


class _LayerNorm(torch.autograd.Function):
    """`layer_norm`, with its gradients; those of weight and bias add up the rows in the order of `column_sums`."""

    @staticmethod
    def forward(context: matmul.Context, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        normalised, mean, reciprocal_std = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        context.save_for_backward(x, mean, reciprocal_std, weight, bias)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(context: matmul.Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, reciprocal_std, weight, bias = context.saved_tensors
        only_x = [True, False, False]
        of_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient, x, weight.shape, mean, reciprocal_std, weight, bias, only_x
        )
        by_row = (x - mean).mul_(reciprocal_std).mul_(gradient)  # (..., width): of weight, by row
        return of_x, matmul.column_sums(by_row), matmul.column_sums(gradient), None


class _Softmax(torch.autograd.Function):
    """`softmax`, with its gradient."""

    @staticmethod
    def forward(context: matmul.Context, scores: Tensor) -> Tensor:
        weights = scores.softmax(-1)
        context.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(context: matmul.Context, gradient: Tensor) -> Tensor:
        (weights,) = context.saved_tensors
        return (gradient - (gradient * weights).sum(-1, keepdim=True)).mul_(weights)
