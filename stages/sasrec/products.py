"""Matrix products; in portable mode their bits are the same on every processor with AVX2.

The last bit of a sum depends on the order of its terms. PyTorch takes its products from MKL, whose kernels for AVX2
add up in one order on Intel and in another on AMD; what it has for both (MKL_CBWR=COMPATIBLE) takes two to four times
as long. PyTorch has oneDNN too, for layers and convolutions: there the order depends on shapes alone.
"""

from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sasrec import reproducibility

PORTABLE = reproducibility.is_portable()  # read once, as torch reads its variables


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias, (..., outputs), for x (..., inputs), weight (outputs, inputs) and bias (outputs,).

    In portable mode each element is one chain of fused multiply-adds, in the order of the terms; of more than 1,024
    terms it is the sum of such chains. So neither the other rows nor the number of threads matter.
    """
    if not _takes_onednn(x):
        return F.linear(x, weight, bias)
    rows = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # (rows, outputs)
    return rows.view(*x.shape[:-1], len(weight))


def batched(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b.T of each pair, (batch, rows, columns), for a (batch, rows, terms) and b (batch, columns, terms)."""
    return _Batched.apply(a, b) if _takes_onednn(a) else a @ b.transpose(1, 2)


def add_batched(x: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return x + scale * batched(a, b), for x (batch, rows, columns)."""
    if not _takes_onednn(a):
        return torch.baddbmm(x, a, b.transpose(1, 2), alpha=scale)
    return torch.add(x, _Batched.apply(a, b), alpha=scale)


def _takes_onednn(x: Tensor) -> bool:
    """Return whether oneDNN takes x: not in fast mode, on a GPU, under autocast, or in a graph that is exported."""
    if not PORTABLE or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    # A public function of torch.jit, which leaves it out of its __all__: so mypy takes it for a private one.
    is_exported = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return torch.backends.mkldnn.is_available() and not is_exported


class Context(Protocol):
    """What autograd keeps for the gradients; PyTorch's own type has room for one tensor."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]  # one an input of `forward`

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep `tensors` as `saved_tensors`."""


class _Linear(torch.autograd.Function):
    """`linear` of x (rows, inputs), with its gradients."""

    @staticmethod
    def forward(context: Context, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = context.saved_tensors
        of_x, of_weight, of_bias = context.needs_input_grad
        return (
            _product(gradient, weight.T) if of_x else None,
            _product(x.T, gradient.T).T if of_weight else None,  # oneDNN copies the first, rarely the wider one
            gradient.sum(0) if of_bias else None,
        )


class _Batched(torch.autograd.Function):
    """`batched`, with its gradients."""

    @staticmethod
    def forward(context: Context, a: Tensor, b: Tensor) -> Tensor:
        context.save_for_backward(a, b)
        return _products(a, b.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor, Tensor]:
        a, b = context.saved_tensors
        of_a = _products(gradient, b)
        if b.is_contiguous():
            return of_a, _products(gradient.transpose(1, 2), a)
        # A transposed b gets a transposed gradient, so that what comes before need not copy it.
        return of_a, _products(a.transpose(1, 2), gradient).transpose(1, 2)


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a @ b.T + bias, (rows, columns), for a (rows, terms), b (columns, terms) and bias (columns,)."""
    if not (a.numel() and b.numel()):  # a process without a row of the batch: oneDNN refuses, and no bit is at stake
        return F.linear(a, b, bias)
    # oneDNN takes a single row or column for a vector, and adds it up in another order: so there are always two.
    if len(a) == 1:
        return _product(a.repeat(2, 1), b, bias)[:1]
    if len(b) == 1:
        return _product(a, b.repeat(2, 1), None if bias is None else bias.repeat(2))[:, :1]
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, (batch, rows, columns), for a (batch, rows, terms) and b (batch, terms, columns)."""
    if not (a.numel() and b.numel()):
        return a @ b
    # A convolution of `batch` groups whose kernels cover one place each: oneDNN has products of batches, but PyTorch
    # does not offer them. In three dimensions no group is cut between threads, and their number does not matter.
    (batch, rows, terms), columns = a.shape, b.shape[2]
    image = b.reshape(1, batch * terms, 1, 1, columns)
    kernels = a.reshape(batch * rows, terms, 1, 1, 1)
    no_padding, no_stride = [0, 0, 0], [1, 1, 1]
    product = torch.ops.mkldnn._convolution_pointwise(
        image, kernels, None, no_padding, no_stride, no_stride, batch, "none", [], ""
    )
    return product.view(batch, rows, columns)
