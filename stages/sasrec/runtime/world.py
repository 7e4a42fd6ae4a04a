"""Divides rows and jobs among processes that run the same program on the same data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, distributed

Job = TypeVar("Job")


@dataclass(frozen=True)
class World:
    """The number of processes, and the rank of this one."""

    rank: int  # of this process, from 0
    size: int  # the number of processes

    @property
    def is_main(self) -> bool:
        """Return whether this process prints and writes for all."""
        return self.rank == 0

    def rows(self, number: int) -> range:
        """Return the consecutive rows, of `number`, that this process computes; none if there are too few."""
        return range(number * self.rank // self.size, number * (self.rank + 1) // self.size)

    def every(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Return every size-th job, from this process's rank on."""
        return jobs[self.rank :: self.size]

    def sum(self, tensor: Tensor) -> Tensor:
        """Return `tensor` overwritten by the sum over all processes, which must all call this."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean over all processes, which must all call this; `tensor` may be overwritten."""
        return self.sum(tensor) / self.size if self.size > 1 else tensor


ALONE = World(0, 1)
