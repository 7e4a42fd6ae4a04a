"""Answers Ctrl-C and SIGTERM with one line and status 1, from a script's first statement until it ends.

A script calls `end_at_once` before its other imports, because they take a second. So this module imports nothing slow.
Importing it sets no handler: a notebook that uses the library keeps its own.
"""

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGNALS = (signal.SIGINT, signal.SIGTERM)
OF_A_STAGE = "`dvc repro` starts this stage again, and training goes on from its last checkpoint"
OF_A_TOOL = "run it again"  # for a script that is no stage
AGAIN_SECONDS = 0.2  # from a swallowed KeyboardInterrupt to the next one


def end_at_once(advice: str = OF_A_STAGE) -> None:
    """Make Ctrl-C and SIGTERM end this process at once, with a line that ends in `advice`.

    During imports nothing needs tidying, and an exception would not do: extension modules turn it into others.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        say(advice)
        os._exit(1)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # the parent process wants it ignored
            signal.signal(number, end)
    atexit.register(_ignore)  # registered first, so it runs last, just before Python drops its handlers


def say(advice: str) -> None:
    """Write the line to standard error; a later signal ends this process without a second line."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.write(2, f"error: interrupted; {advice}\n".encode())  # sys.stderr may be in the middle of a write
    for number in SIGNALS:
        signal.signal(number, lambda _number, _frame: os._exit(1))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def raised() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block on Ctrl-C or SIGTERM; restore the earlier handlers afterwards.

    Some libraries swallow the exception. It is therefore raised again until it ends the block, at the latest at the
    block's end, but not while another exception is handled, which may be the tidying. Other libraries convert it,
    so any exception that leaves the block after a signal becomes KeyboardInterrupt. An import is finished first: some
    extension modules abort the process on an exception.
    """
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        is_first = not received
        received.append(number)
        if (is_first or sys.exception() is None) and not _is_importing(frame):
            raise KeyboardInterrupt

    try:
        for number in SIGNALS:
            if before[number] != signal.SIG_IGN:
                signal.signal(number, interrupt)
        with _unreported_in_destructors():
            yield
        if received:  # swallowed just before the end of the block
            raise KeyboardInterrupt
    except BaseException as error:
        if received:
            raise KeyboardInterrupt from error
        raise
    finally:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, before)  # a signal that comes now is left to `before`
        if received:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _is_importing(frame: FrameType | None) -> bool:
    while frame and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


@contextmanager
def _unreported_in_destructors() -> Iterator[None]:
    """Print nothing of a KeyboardInterrupt that a destructor swallows: `raised` raises it again."""
    report_ignored = sys.unraisablehook

    def report_others(ignored: "UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            report_ignored(ignored)

    sys.unraisablehook = report_others
    try:
        yield
    finally:
        sys.unraisablehook = report_ignored


@contextmanager
def kept_from_processes() -> Iterator[None]:
    """Block Ctrl-C in processes started here: a terminal sends it to all processes, and this one ends the others.

    This process answers a signal when the block ends, because a half-started process would print a traceback.
    """
    received: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    answered = {number: handler for number, handler in handlers.items() if callable(handler)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # a new process inherits the blocked signals
    for number in answered:  # another thread may receive a signal that is blocked in this one
        signal.signal(number, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        for number, handler in answered.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if received:
            signal.raise_signal(received[0])


def _ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
