"""Starts the processes that share a training, connects them, and ends all of them where one ends.

The process that DVC started is the first one and starts the others, each with the variables that torchrun would set.
Where torchrun started this one, it starts none.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import torch
from torch import distributed

from sasrec import interrupts, visible
from sasrec.errors import UserError
from sasrec.processes import Share

STARTED_BY_FIRST = "SASREC_STARTED_BY_FIRST"
GRACE_SECONDS = 5.0  # for the first process to learn from its connection that another one ended
# Gloo's threads take Python's lock to drop their last tensors. What holds the lock while it ends gloo, as the end of
# DistributedDataParallel may, waits for them for ever: so they are let do it before.
DRAIN_SECONDS = 0.3
LOST = "another process ended"
RESUME = interrupts.OF_A_STAGE


class Other(NamedTuple):
    """A process that the first one started."""

    name: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]  # what it wrote to standard error


def share_of(processes: int) -> Share:
    """Return this process's share: what torchrun says, else that of the first of `processes`."""
    if "RANK" in os.environ:
        return Share(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    return Share(0, processes)


@contextmanager
def connected(share: Share, device: torch.device) -> Iterator[None]:
    """Connect the processes while the block runs: by NCCL on CUDA, by gloo on the CPU; start them where needed.

    Raises:
        UserError: they cannot be connected, or another one ended first; the message says why, where that is known.

    """
    if share.count == 1:
        yield
        return
    url, others, is_over = "env://", [], threading.Event()
    if STARTED_BY_FIRST in os.environ:
        _end_with_the_first()
    elif "RANK" not in os.environ:
        port = _free_port()
        url = f"tcp://127.0.0.1:{port}"
        others = [_start(rank, share.count, port) for rank in range(1, share.count)]
        threading.Thread(target=_watch, args=(others, is_over), daemon=True).start()
    try:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        _connect(backend, url, share)
        yield
        distributed.destroy_process_group()
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        raise UserError(_why_it_ended(others)) from None
    finally:
        is_over.set()
        for other in others:
            other.process.kill()
            other.process.wait()
        time.sleep(DRAIN_SECONDS)


def is_lost_connection(error: RuntimeError) -> bool:
    """Return whether gloo, NCCL or their store cannot reach another process any more."""
    lost = re.search(r"onnection (closed|reset|refused)|Broken pipe|imed out|[tT]imeout|remote process", str(error))
    return isinstance(error, distributed.DistError) or lost is not None


def _connect(backend: str, url: str, share: Share) -> None:
    """Connect to the other processes in a thread: while C++ waits for them in this one, no signal is answered."""
    raised: list[Exception] = []

    def connect() -> None:
        try:
            distributed.init_process_group(backend, url, rank=share.rank, world_size=share.count)
        except Exception as error:  # raised below, where it is caught
            raised.append(error)

    thread = threading.Thread(target=connect, daemon=True)  # a process that is interrupted does not wait for it
    thread.start()
    thread.join()
    for error in raised:
        if isinstance(error, RuntimeError) and not is_lost_connection(error):
            reason = str(error).partition("\n")[0].rpartition("] ")[2]  # without the place in the code of PyTorch
            raise UserError(f"the training processes cannot be connected by {backend}: {reason}") from None
        raise error


def _free_port() -> int:
    """Return a port of this machine; raise UserError where it does not reach itself, for which PyTorch would wait."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        try:
            socket.create_connection(listener.getsockname(), timeout=GRACE_SECONDS).close()
        except OSError as error:
            raise UserError(
                f"this machine cannot reach itself at 127.0.0.1 ({error.strerror or error}), which several processes "
                "need; bring the loopback interface up (`ip link set lo up`), or set train.processes to 1"
            ) from None
        return listener.getsockname()[1]


def _start(rank: int, count: int, port: int) -> Other:
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        STARTED_BY_FIRST: 1,
    }
    said = tempfile.TemporaryFile()  # noqa: SIM115 (it must outlive this function)
    process = subprocess.Popen(
        [sys.executable, *sys.argv],
        env=os.environ | {name: str(value) for name, value in variables.items()},
        stdin=subprocess.PIPE,  # which closes when the first process ends, however it does
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,  # Ctrl-C is for the first process alone, which ends the others
    )
    return Other(f"process {rank + 1} of {count}", process, said)


def _end_with_the_first() -> None:
    def wait() -> None:
        os.read(0, 1)  # the first process writes nothing: this returns when it has ended
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _watch(others: list[Other], is_over: threading.Event) -> None:
    """End this process where another one ended and the connection does not tell: NCCL waits, and so does the start."""
    while not is_over.wait(0.2):
        if any(other.process.poll() for other in others) and not is_over.wait(GRACE_SECONDS):
            print(f"error: {visible.text(_why_it_ended(others))}", file=sys.stderr, flush=True)
            for other in others:
                other.process.kill()
            os._exit(1)


def _why_it_ended(others: list[Other]) -> str:
    """Return a line about the one that ended first; of the others, one says that it lost its connection."""
    deadline = time.monotonic() + GRACE_SECONDS
    while others and not any(other.process.poll() for other in others) and time.monotonic() < deadline:
        time.sleep(0.05)
    reasons = [_reason(other) for other in others if other.process.poll()]
    return min(reasons, key=lambda reason: LOST in reason, default=f"{LOST}; {RESUME}")


def _reason(other: Other) -> str:
    status = other.process.wait()
    if status < 0:
        return f"{other.name} was ended by {signal.Signals(-status).name}; {RESUME}"
    other.said.seek(0)
    *before, last = other.said.read().decode(errors="replace").splitlines() or [f"it ended with status {status}"]
    if not last.startswith("error: "):
        print(*map(visible.text, before), sep="\n", file=sys.stderr)  # what a bug says of itself
    return f"{other.name}: {last.removeprefix('error: ')}"
