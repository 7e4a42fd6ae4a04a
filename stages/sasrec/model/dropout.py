"""Dropout with masks that do not depend on the number of processes."""

from typing import NamedTuple

import torch
from torch import Tensor


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


def dropout_mask(x: Tensor, rate: float, random_bytes: RandomBytes) -> Tensor:
    """Return a mask of the shape (rows, ...) and dtype of x: 0 with probability `rate`, else 1 / (1 - rate).

    The rate is rounded to a multiple of 1/256, because one random byte decides each element. That is many times faster
    than a Bernoulli draw.
    """
    threshold = min(round(rate * 256), 255)  # at most 255 / 256 is dropped
    octets = random_bytes.draw(x.shape, x.device)
    return octets.to(x.dtype).ge_(threshold).mul_(256 / (256 - threshold))


def dropout(x: Tensor, rate: float, random_bytes: RandomBytes | None) -> Tensor:
    """Return x, (rows, ...), with each element zeroed with probability `rate`, the others scaled; x if no bytes."""
    if random_bytes is None or rate == 0:
        return x
    return x * dropout_mask(x, rate, random_bytes)


def add_dropped(x: Tensor, change: Tensor, rate: float, random_bytes: RandomBytes | None) -> Tensor:
    """Return x + dropout(change), (rows, ...), in one pass."""
    if random_bytes is None or rate == 0:
        return x + change
    return torch.addcmul(x, change, dropout_mask(change, rate, random_bytes))
