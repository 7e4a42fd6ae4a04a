"""Measures SASRec of one library in this process, and prints the times and the peak memory as JSON for `peers.py`.

It runs in each library's own environment, so it imports only NumPy and PyTorch beside that library's program. CPU time
is the process's, of all threads, so it leaves out what other processes of the machine take.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

MAX_LEN, WIDTH, BLOCKS, HEADS, DROPOUT = 50, 50, 2, 1, 0.5
BATCH_SIZE, LEARNING_RATE = 128, 0.001
NUM_NEGATIVES = 1024  # of the sampled softmax, as in params.yaml
RANK_BATCH_SIZE = 256
K = 10
WARM_UP_STEPS, STEPS = 5, 30
ENOUGH_SECONDS = 60  # after which one step that is measured suffices
MANY_EPOCHS = 10_000  # more than the steps need

Times = dict[str, float]


class Histories(NamedTuple):
    """The items of user r are items[offsets[r]:offsets[r + 1]], oldest first."""

    items: np.ndarray  # (total,) int32, from 1; every one of 1..num_items occurs
    offsets: np.ndarray  # (users + 1,) int64
    num_items: int

    @property
    def users(self) -> np.ndarray:
        """The user of each item, from 0, (total,) int64."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


Recommend = Callable[[], np.ndarray]
"""Returns the K best items of every user that are not in the user's history, best first, (users, K)."""


class Program(Protocol):
    """A module beside this one: how a user of the library would train and rank."""

    def prepare(self, histories: Histories, folder: Path) -> object:
        """Return the histories in the form that the library reads, which may be files in `folder`; not timed."""

    def fit(self, data: object, num_epochs: int, loss: str) -> Recommend:
        """Train on what `prepare` returned.

        The loss is `bce` with one negative for each positive, `sampled_softmax` with NUM_NEGATIVES, or `softmax` over
        all items.
        """


@contextlib.contextmanager
def clock(times: Times, name: str) -> Iterator[None]:
    """Store the seconds and the CPU seconds of the block in `times`."""
    start, cpu_start = time.perf_counter(), time.process_time()
    yield
    times[f"{name}_seconds"] = time.perf_counter() - start
    times[f"{name}_cpu_seconds"] = time.process_time() - cpu_start


def step(program: Program, data: object, loss: str) -> Times:
    """Return the median CPU seconds from the end of one optimiser step to the end of the next.

    So a step includes the drawing of its batch, and what the library's training loop does beside it.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ends: list[float] = []

    def note(*_: object) -> None:
        ends.append(time.process_time())
        steps = STEPS if ends[-1] - ends[0] < ENOUGH_SECONDS else 1
        if len(ends) > WARM_UP_STEPS + steps:
            raise InterruptedError

    handle = register_optimizer_step_post_hook(note)
    with contextlib.suppress(InterruptedError):
        program.fit(data, MANY_EPOCHS, loss)
    handle.remove()
    return {"step_cpu_seconds": statistics.median(np.diff(ends)[WARM_UP_STEPS:].tolist())}


def whole(program: Program, data: object, histories: Histories, num_epochs: int) -> Times:
    """Return the times of a training by `bce`, and of ranking all items for all users with its model."""
    times: Times = {}
    with clock(times, "fit"):
        recommend = program.fit(data, num_epochs, "bce")
    with clock(times, "rank"):
        found = recommend()
    require_unseen(found, histories)
    return times | {"whole_seconds": times["fit_seconds"] + times["rank_seconds"]}


def require_unseen(found: np.ndarray, histories: Histories) -> None:
    """End unless `found` holds K different items for each user, none of the user's history."""
    num_users = len(histories.offsets) - 1
    if found.shape != (num_users, K) or not 1 <= found.min() <= found.max() <= histories.num_items:
        sys.exit(f"error: the recommendations are not {K} items for each of {num_users} users")
    width = histories.num_items + 1
    pairs = np.arange(num_users)[:, None] * width + found
    if len(np.unique(pairs)) < pairs.size or np.isin(pairs, histories.users * width + histories.items).any():
        sys.exit("error: an item is recommended twice, or is in the user's history")


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", help="a module beside this one")
    parser.add_argument("work", choices=["step_bce", "step_sampled_softmax", "step_softmax", "whole"])
    parser.add_argument("histories", type=Path, help="a .npz of Histories")
    parser.add_argument("--epochs", type=int, default=1, help="of `whole`")
    asked = parser.parse_args()
    with np.load(asked.histories) as arrays:
        histories = Histories(arrays["items"], arrays["offsets"], int(arrays["num_items"]))
    program: Any = importlib.import_module(asked.program)  # a Program
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        data = program.prepare(histories, Path(folder))
        if asked.work == "whole":
            times = whole(program, data, histories, asked.epochs)
        else:
            times = step(program, data, asked.work.removeprefix("step_"))
    times["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(times))


if __name__ == "__main__":
    main()
