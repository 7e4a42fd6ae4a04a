"""Scaled dot-product attention (equation 2 of the paper), with dropout."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sasrec.model import matmul
from sasrec.model.dropout import RandomBytes, draw_mask, dropout, times_mask


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    num_heads: int,
    rate: float,
    random_bytes: RandomBytes | None,
) -> Tensor:
    """Return dropout(softmax(query @ key.T / sqrt(head_width) + mask)) @ value, (rows, num_queries, width).

    `query` is (rows, num_queries, width), `key` and `value` (rows, length, width); each holds its heads side by side.
    `mask` is (rows, num_queries, length).
    """
    rows, num_queries, length = mask.shape
    width, head_width = query.shape[2], query.shape[2] // num_heads
    by_head = rows, num_heads, num_queries, length
    query, key, value = (_by_head(part, num_heads) for part in (query, key, value))
    mask = mask.repeat_interleave(num_heads, 0) if num_heads > 1 else mask  # (rows * num_heads, num_queries, length)
    if matmul.is_plain(query):
        kept, scale = draw_mask(torch.Size(by_head), query.device, rate, random_bytes)
        mixed = _Attend.apply(query, key, value, mask, kept, scale)
    else:
        scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=query.shape[2] ** -0.5)
        weights = dropout(scores.softmax(-1).view(by_head), rate, random_bytes)
        mixed = weights.view(mask.shape) @ value  # (rows * num_heads, num_queries, head_width)
    return mixed.view(rows, num_heads, num_queries, head_width).transpose(1, 2).reshape(rows, num_queries, width)


class _Attend(torch.autograd.Function):
    """`attend` on the CPU for one head, with its gradient: half the passes that single operators need, most in place.

    No sum here depends on the number of threads; PyTorch's gradient of a softmax rounds otherwise with one thread.

    For the weights w and their gradient d, that of the scores is w * (d - sum of w * d). Dropout makes w * m of them,
    with a gradient g, so d is g * m, and w * d is g * (w * m): the mask m need not be kept.
    """

    @staticmethod
    def forward(
        context: matmul.Context,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        kept: Tensor | None,
        scale: float,
    ) -> Tensor:
        weights = matmul.add_products(mask, query, key.mT, scale=query.shape[2] ** -0.5)
        torch.softmax(weights, -1, out=weights)  # (rows, num_queries, length)
        dropped = weights if kept is None else times_mask(weights, kept.view(weights.shape), scale)
        context.save_for_backward(query, key, value, weights, dropped)
        return matmul.products(dropped, value)

    @staticmethod
    @once_differentiable
    def backward(context: matmul.Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights, dropped = context.saved_tensors
        of_scores = matmul.products(gradient, value.mT).mul_(dropped)  # (rows, num_queries, length)
        of_scores.sub_(weights * of_scores.sum(-1, keepdim=True)).mul_(query.shape[2] ** -0.5)
        of_query, of_key = matmul.products(of_scores, key), matmul.products(of_scores.mT, query)
        return of_query, of_key, matmul.products(dropped.mT, gradient), None, None, None


def _by_head(x: Tensor, num_heads: int) -> Tensor:
    """Return (rows * num_heads, length, head_width) of x (rows, length, width)."""
    rows, length, width = x.shape
    head_width = width // num_heads
    return x.view(rows, length, num_heads, head_width).transpose(1, 2).reshape(rows * num_heads, length, head_width)
