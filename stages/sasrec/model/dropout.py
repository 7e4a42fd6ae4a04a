"""Dropout with masks that do not depend on the number of processes."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sasrec.model import matmul


class RandomBytes(NamedTuple):
    """Random bytes for the rows of one process.

    Each process draws the whole batch's bytes and keeps its own rows, so masks do not depend on the number of
    processes.
    """

    generator: torch.Generator  # on the model's device
    num_rows: int  # of the whole batch
    rows: range  # of this process

    def draw(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Return uniform bytes for `rows`, `shape` (rows, ...) uint8; the generator advances by the whole batch."""
        per_row = shape[1:].numel()
        words = torch.empty(-(-self.num_rows * per_row // 8), dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=self.generator)
        return words.view(torch.uint8)[self.rows.start * per_row : self.rows.stop * per_row].view(shape)


def dropout(x: Tensor, rate: float, random_bytes: RandomBytes | None) -> Tensor:
    """Return x, (rows, ...), with each element zeroed with probability `rate`, the others scaled; x if no bytes."""
    kept, scale = draw_mask(x.shape, x.device, rate, random_bytes)
    return x if kept is None else _Dropout.apply(x, kept, scale)


def add_dropped(x: Tensor, change: Tensor, rate: float, random_bytes: RandomBytes | None) -> Tensor:
    """Return x + dropout(change), (rows, ...)."""
    dropped = dropout(change, rate, random_bytes)
    is_new = dropped is not change and dropped.dtype == x.dtype
    return dropped.add_(x) if is_new else x + dropped


def draw_mask(
    shape: torch.Size, device: torch.device, rate: float, random_bytes: RandomBytes | None
) -> tuple[Tensor | None, float]:
    """Return which elements of `shape` (rows, ...) are kept, uint8: 0 with probability `rate`, else 1; and their scale.

    The rate is rounded to a multiple of 1/256, because one random byte decides each element. That is many times faster
    than a Bernoulli draw. Without bytes, or at the rate 0, all are kept: None.
    """
    if random_bytes is None or rate == 0:
        return None, 1.0
    threshold = min(round(rate * 256), 255)  # at most 255 / 256 is dropped
    return random_bytes.draw(shape, device).ge_(threshold), 256 / (256 - threshold)


def times_mask(x: Tensor, kept: Tensor, scale: float) -> Tensor:
    """Return x * kept * scale, a new tensor of the shape and type of x; fewer passes than with `kept` as floats."""
    return kept.to(x.dtype).mul_(scale).mul_(x)


class _Context(matmul.Context, Protocol):
    scale: float


class _Dropout(torch.autograd.Function):
    """`times_mask`, with its gradient; it keeps bytes until then, not floats."""

    @staticmethod
    def forward(context: _Context, x: Tensor, kept: Tensor, scale: float) -> Tensor:
        context.save_for_backward(kept)
        context.scale = scale
        return times_mask(x, kept, scale)

    @staticmethod
    @once_differentiable
    def backward(context: _Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (kept,) = context.saved_tensors
        return times_mask(gradient, kept, context.scale), None, None
