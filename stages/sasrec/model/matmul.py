"""Matrix products that, in portable mode, are bit-identical on every processor with AVX2.

The last bit of a sum depends on the order of its terms. PyTorch multiplies with MKL, whose AVX2 kernels sum in another
order on Intel than on AMD; its common mode (MKL_CBWR=COMPATIBLE) is two to four times slower. PyTorch's oneDNN layers
sum in an order that depends on shapes alone, and so do its convolutions while no thread divides a group: portable mode
uses both, and sees to the groups.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sasrec.runtime import reproducibility

PORTABLE = reproducibility.is_portable()  # fixed at import, like the variables that torch reads
# From oneDNN's choice of a convolution's kernel and threads (gemm_convolution_utils.cpp):
FEWEST_GROUPS = 8  # with fewer, another kernel may multiply
MOST_COLUMNS = 511  # from 512 for each thread on, the threads divide a group
LEAST_DIVIDED_WORK = 2**16  # for each thread: with less, the threads do not divide a group


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias, (..., outputs), for x (..., inputs), weight (outputs, inputs) and bias (outputs,).

    In portable mode each element is one chain of fused multiply-adds in the order of the terms, or the sum of several
    chains for more than 1,024 terms. So neither the other rows nor the number of threads matter.
    """
    if not is_portable(x):
        return F.linear(x, weight, bias)
    rows = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # (rows, outputs)
    return rows.view(*x.shape[:-1], len(weight))  # (..., outputs)


def linear_parts(x: Tensor, weight: Tensor, num_parts: int) -> tuple[Tensor, ...]:
    """Return linear(x, weight) in `num_parts` tensors, (..., outputs / num_parts), none a slice of another."""
    if not is_plain(x):
        return F.linear(x, weight).chunk(num_parts, -1)
    parts: tuple[Tensor, ...] = _LinearParts.apply(x, weight, num_parts)
    return parts


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a @ b.T + bias, (rows, columns), for a (rows, terms), b (columns, terms) and bias (columns,)."""
    return _product(a, b, bias) if is_portable(a) else F.linear(a, b, bias)


def add_product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return x + product(a, b), (rows, columns), in the memory of x."""
    return x.add_(_product(a, b)) if is_portable(a) else x.addmm_(a, b.T)


def weight_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Return gradient.T @ x, (outputs, inputs), for x (rows, inputs) and the gradient (rows, outputs) of a product."""
    # x first: the first factor is copied, and x is rarely the wider one.
    return _product(x.T, gradient.T).T if is_portable(x) else gradient.T @ x


def products(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b of each pair, (batch, rows, columns), for a (batch, rows, terms) and b (batch, terms, columns)."""
    return _products(a, b) if is_portable(a) else a @ b


def add_products(x: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return x + scale * products(a, b), (batch, rows, columns), a new tensor."""
    if not is_portable(a):
        return torch.baddbmm(x, a, b, alpha=scale)
    return _products(a, b).mul_(scale).add_(x)


def column_sums(x: Tensor) -> Tensor:
    """Return the sum of each column of x, (columns,), for x (rows, columns).

    PyTorch gives each thread whole blocks of 32 columns and, perhaps, the rest. It adds up 4 to 7 columns in another
    order where they are alone, so these are a product with ones.
    """
    if is_portable(x) and 4 <= x.shape[1] % 32 <= 7:
        return _product(x.new_ones(2, len(x)), x.T)[0]  # two rows, as `_product` says
    return x.sum(0)


def is_portable(x: Tensor) -> bool:
    """Return whether oneDNN multiplies x: not in fast mode, on a GPU, under autocast, or while exporting a graph."""
    return PORTABLE and torch.backends.mkldnn.is_available() and is_plain(x)


def is_plain(x: Tensor) -> bool:
    """Return whether x is computed on the CPU in its own type: not on a GPU, under autocast, or while exporting."""
    # torch.jit leaves this public function out of its __all__, so mypy calls it private.
    is_exported = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu") and not is_exported


class Context(Protocol):
    """Autograd's context; the saved_tensors of PyTorch's own type hold one tensor."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]  # one for each input of `forward`

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep `tensors` as `saved_tensors`."""


class _Linear(torch.autograd.Function):
    """`linear` for x (rows, inputs), with its gradients."""

    @staticmethod
    def forward(context: Context, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = context.saved_tensors
        needs_x, needs_weight, needs_bias = context.needs_input_grad
        return (
            _product(gradient, weight.T) if needs_x else None,
            weight_gradient(x, gradient) if needs_weight else None,
            column_sums(gradient) if needs_bias else None,
        )


class _LinearParts(torch.autograd.Function):
    """`linear_parts`, with its gradients."""

    @staticmethod
    def forward(context: Context, x: Tensor, weight: Tensor, num_parts: int) -> tuple[Tensor, ...]:
        context.save_for_backward(x, weight)
        rows = x.flatten(0, -2)  # (rows, inputs)
        return tuple(product(rows, part).unflatten(0, x.shape[:-1]) for part in weight.chunk(num_parts))

    @staticmethod
    @once_differentiable
    def backward(context: Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = context.saved_tensors
        rows, by_part = x.flatten(0, -2), [gradient.flatten(0, -2) for gradient in gradients]
        first, *others = zip(by_part, weight.chunk(len(by_part)), strict=True)
        of_rows = product(first[0], first[1].T)  # (rows, inputs)
        for gradient, part in others:
            of_rows = add_product(of_rows, gradient, part.T)
        # For oneDNN the transpose must be contiguous: so one copy serves all.
        columns = _contiguous(rows.T) if is_portable(rows) else rows.T  # (inputs, rows)
        of_weight = torch.cat([weight_gradient(columns.T, gradient) for gradient in by_part])
        return of_rows.view(x.shape), of_weight, None


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a @ b.T + bias, (rows, columns), for a (rows, terms), b (columns, terms) and bias (columns,)."""
    if not (a.numel() and b.numel()):  # a process may have no rows, which oneDNN refuses
        return F.linear(a, b, bias)
    # oneDNN treats a single row or column as a vector and sums in another order, so always pass two.
    if len(a) == 1:
        return _product(a.repeat(2, 1), b, bias)[:1]  # (1, columns)
    if len(b) == 1:
        return _product(a, b.repeat(2, 1), None if bias is None else bias.repeat(2))[:, :1]  # (rows, 1)
    return torch.ops.mkldnn._linear_pointwise(_contiguous(a), b, bias, "none", [], "")


def _products(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, (batch, rows, columns), for a (batch, rows, terms) and b (batch, terms, columns)."""
    if not (a.numel() and b.numel()):
        return a @ b
    (batch, rows, terms), columns = a.shape, b.shape[2]
    if columns > MOST_COLUMNS:
        return torch.cat([_products(a, part) for part in b.split(MOST_COLUMNS, 2)], 2)
    groups = _num_groups(batch, rows * terms * columns)
    if groups > batch:
        zeros_after = (0, 0, 0, 0, 0, groups - batch)
        return _products(F.pad(a, zeros_after), F.pad(b, zeros_after))[:batch]
    # PyTorch does not expose oneDNN's batched products, so use a convolution with `batch` groups and 1 x 1 x 1 kernels.
    image = _contiguous(b).view(1, batch * terms, 1, 1, columns)
    kernels = _contiguous(a).view(batch * rows, terms, 1, 1, 1)
    no_padding, no_stride = [0, 0, 0], [1, 1, 1]
    product = torch.ops.mkldnn._convolution_pointwise(
        image, kernels, None, no_padding, no_stride, no_stride, batch, "none", [], ""
    )
    return product.view(batch, rows, columns)


def _num_groups(batch: int, work: int) -> int:
    """Return the number of groups, at least `batch`, with which oneDNN gives each one to a single thread.

    Otherwise its threads divide each group, and with it the sums.
    """
    needed, num_threads = max(batch, FEWEST_GROUPS), torch.get_num_threads()
    if work < num_threads * LEAST_DIVIDED_WORK:
        return needed
    return math.ceil(needed / num_threads) * num_threads


def _contiguous(x: Tensor) -> Tensor:
    """Return x, (..., rows, columns), as `Tensor.contiguous` does; a transpose in a third of the time.

    PyTorch shuffles channels by transposing the matrix of each pixel, with vector instructions.
    """
    if x.is_contiguous() or not x.mT.is_contiguous():
        return x.contiguous()
    rows, columns = x.shape[-2:]
    pixels = x.mT.reshape(-1, 1, 1, columns * rows).permute(0, 3, 1, 2)  # (matrices, columns * rows, 1, 1)
    return F.channel_shuffle(pixels, columns).view(x.shape)
