"""Rows of an embedding table, whose gradient is one table however many lookups there are."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from sasrec.model import matmul

PADDING = 0  # the row that never learns


def lookup(table: Tensor, *indices: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of `table` (num_rows, width) at each of `indices` (...), (..., width).

    Row PADDING has no gradient. On the CPU the gradients of all lookups are added, in the order of the indices, to one
    table of zeros: in half the time of PyTorch's embedding, which makes a table for each lookup.
    """
    if table.device.type != "cpu":
        return tuple(F.embedding(each, table, padding_idx=PADDING) for each in indices)
    rows: tuple[Tensor, ...] = _Lookup.apply(table, *indices)
    return rows


class _Lookup(torch.autograd.Function):
    """`lookup`, with its gradient."""

    @staticmethod
    def forward(context: matmul.Context, table: Tensor, *indices: Tensor) -> tuple[Tensor, ...]:
        context.save_for_backward(table, *indices)
        return tuple(F.embedding(each, table) for each in indices)

    @staticmethod
    @once_differentiable
    def backward(context: matmul.Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        table, *indices = context.saved_tensors
        total = torch.zeros_like(table)  # (num_rows, width)
        for each, gradient in zip(indices, gradients, strict=True):
            total.index_add_(0, each.flatten(), gradient.reshape(-1, table.shape[1]))
        total[PADDING] = 0
        return total, *(None for _ in indices)
