"""Starts the training processes, connects them, and ends all of them when one ends.

DVC starts the main process, which starts the others with the variables that torchrun would set. Under torchrun it
starts none.
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

from sasrec.core import interrupts, visible
from sasrec.core.errors import UserError
from sasrec.runtime.world import World

STARTED_BY_MAIN = "SASREC_STARTED_BY_FIRST"
GRACE_SECONDS = 5.0  # for the connection to tell the main process that another one ended
# Gloo's threads need the GIL to free their last tensors. Shutting gloo down while holding it, as the end of
# DistributedDataParallel may, deadlocks, so wait first.
DRAIN_SECONDS = 0.3
LOST = "another process ended"
RESUME = interrupts.OF_A_STAGE


class Other(NamedTuple):
    """A process that the main one started."""

    name: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]  # its standard error


def world_of(processes: int) -> World:
    """Return this process's world: torchrun's if it runs, else the main process of `processes`."""
    if "RANK" in os.environ:
        return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    return World(0, processes)


@contextmanager
def connected(world: World, device: torch.device) -> Iterator[None]:
    """Start the other processes if torchrun did not, and connect all while the block runs.

    NCCL connects GPUs, gloo connects CPUs.

    Raises:
        UserError: connecting failed, or another process ended first; the message says why if that is known.

    """
    if world.size == 1:
        yield
        return
    url, others, is_over = "env://", [], threading.Event()
    if STARTED_BY_MAIN in os.environ:
        _end_with_main()
    elif "RANK" not in os.environ:
        port = _free_port()
        url = f"tcp://127.0.0.1:{port}"
        others = [_start(rank, world.size, port) for rank in range(1, world.size)]
        threading.Thread(target=_watch, args=(others, is_over), daemon=True).start()
    try:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        _connect(backend, url, world)
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
    """Return whether gloo, NCCL or their store lost another process."""
    lost = re.search(r"onnection (closed|reset|refused)|Broken pipe|imed out|[tT]imeout|remote process", str(error))
    return isinstance(error, distributed.DistError) or lost is not None


def _connect(backend: str, url: str, world: World) -> None:
    """Connect to the other processes in a thread: the main thread handles no signal while it waits in C++."""
    raised: list[Exception] = []

    def connect() -> None:
        try:
            distributed.init_process_group(backend, url, rank=world.rank, world_size=world.size)
        except Exception as error:  # raised again below, in the main thread
            raised.append(error)

    thread = threading.Thread(target=connect, daemon=True)  # an interrupted process does not wait for it
    thread.start()
    thread.join()
    for error in raised:
        if isinstance(error, RuntimeError) and not is_lost_connection(error):
            reason = str(error).partition("\n")[0].rpartition("] ")[2]  # without PyTorch's source position
            raise UserError(f"the training processes cannot be connected by {backend}: {reason}") from None
        raise error


def _free_port() -> int:
    """Return a free port; raise UserError if the machine cannot reach itself, because PyTorch would wait for ever."""
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
    """Start this script again as process `rank` of `count`; the main one listens at `port`."""
    variables = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        STARTED_BY_MAIN: 1,
    }
    said = tempfile.TemporaryFile()  # noqa: SIM115 (it must outlive this function)
    process = subprocess.Popen(
        [sys.executable, *sys.argv],
        env=os.environ | {name: str(value) for name, value in variables.items()},
        stdin=subprocess.PIPE,  # it closes when the main process ends, for whatever reason
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,  # only the main process gets Ctrl-C, and it ends the others
    )
    return Other(f"process {rank + 1} of {count}", process, said)


def _end_with_main() -> None:
    """Exit as soon as the main process ends."""

    def wait() -> None:
        os.read(0, 1)  # returns when the main process ends, which writes nothing
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _watch(others: list[Other], is_over: threading.Event) -> None:
    """End this process if another one ended and the connection does not tell: NCCL and connecting wait for ever."""
    while not is_over.wait(0.2):
        if any(other.process.poll() for other in others) and not is_over.wait(GRACE_SECONDS):
            print(f"error: {visible.text(_why_it_ended(others))}", file=sys.stderr, flush=True)
            for other in others:
                other.process.kill()
            os._exit(1)


def _why_it_ended(others: list[Other]) -> str:
    """Return a line about the process that ended first; any others only say that they lost their connection."""
    deadline = time.monotonic() + GRACE_SECONDS
    while others and not any(other.process.poll() for other in others) and time.monotonic() < deadline:
        time.sleep(0.05)
    reasons = [_reason(other) for other in others if other.process.poll()]
    return min(reasons, key=lambda reason: LOST in reason, default=f"{LOST}; {RESUME}")


def _reason(other: Other) -> str:
    """Return a line on why `other` ended; print the traceback of a bug."""
    status = other.process.wait()
    if status < 0:
        return f"{other.name} was ended by {signal.Signals(-status).name}; {RESUME}"
    other.said.seek(0)
    *before, last = other.said.read().decode(errors="replace").splitlines() or [f"it ended with status {status}"]
    if not last.startswith("error: "):
        print(*map(visible.text, before), sep="\n", file=sys.stderr)  # a bug's traceback
    return f"{other.name}: {last.removeprefix('error: ')}"
