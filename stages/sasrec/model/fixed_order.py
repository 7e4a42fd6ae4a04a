"""A LayerNorm whose gradient, in portable mode, does not depend on the number of threads.

PyTorch's gives each thread some rows, adds up the gradient of the weights there, and then adds up the threads.
"""

from collections.abc import Iterator
from contextlib import contextmanager

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


class _LayerNorm(torch.autograd.Function):
    """`layer_norm`, with its gradients."""

    @staticmethod
    def forward(context: matmul.Context, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        normalised, mean, reciprocal_std = torch.native_layer_norm(x, weight.shape, weight, bias, eps)
        context.save_for_backward(x, mean, reciprocal_std, weight, bias)
        return normalised

    @staticmethod
    @once_differentiable
    def backward(context: matmul.Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, reciprocal_std, weight, bias = context.saved_tensors
        inputs = gradient, x, weight.shape, mean, reciprocal_std, weight, bias
        of_x, _, _ = torch.ops.aten.native_layer_norm_backward(*inputs, [True, False, False])
        with one_thread():  # sums of products would divide the work, and take twice the time of a core
            _, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(*inputs, [False, True, True])
        return of_x, of_weight, of_bias, None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread, for sums that it would divide among the threads."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
