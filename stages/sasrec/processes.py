"""Divides the rows of a batch, or a list of jobs, among processes that run the same program on the same data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, distributed

Job = TypeVar("Job")


@dataclass(frozen=True)
class Share:
    """What one of several processes takes."""

    rank: int  # of this process, from 0; the first one speaks and writes for all
    count: int  # of the processes

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that speaks and writes for all."""
        return self.rank == 0

    def rows(self, number: int) -> range:
        """Return which of `number` rows are this process's: neighbours, none where there are too few."""
        return range(number * self.rank // self.count, number * (self.rank + 1) // self.count)

    def every(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Return this process's jobs: every count-th."""
        return jobs[self.rank :: self.count]

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of all processes' tensors, in the memory of `tensor`; every process must call it."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of all processes' tensors; every process must call it."""
        return self.sum(tensor) / self.count if self.count > 1 else tensor


ALONE = Share(0, 1)
