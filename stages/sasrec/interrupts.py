"""Answers Ctrl-C and SIGTERM with one line and status 1, from a script's first statement until it ends.

A script calls `end_at_once` before it imports anything else, because imports take a second. So this module imports
nothing that is slow. Importing it changes nothing: a notebook that uses the library keeps its own handlers.
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
OF_A_TOOL = "run it again"  # of a script that is no stage
AGAIN_SECONDS = 0.2  # from a KeyboardInterrupt to the next one, where something swallowed it


def end_at_once(advice: str = OF_A_STAGE) -> None:
    """Let Ctrl-C and SIGTERM end this process at once, with a line that ends in `advice`.

    During imports nothing needs tidying, and an exception would not do: extensions turn it into others.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        say(advice)
        os._exit(1)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # whoever started this process wants it ignored
            signal.signal(number, end)
    atexit.register(_ignore)  # the first one registered runs last, when Python is about to drop its handlers


def say(advice: str) -> None:
    """Write the line to standard error; where another signal comes, this process ends without a second one."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.write(2, f"error: interrupted; {advice}\n".encode())  # sys.stderr may be in the middle of a write
    for number in SIGNALS:
        signal.signal(number, lambda _number, _frame: os._exit(1))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def raised() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block where Ctrl-C or SIGTERM comes; afterwards both do what they did before.

    Some libraries swallow it: so it is raised again until it ends the block, but not while an exception is handled,
    which may be the tidying. Others convert it: so whatever exception leaves the block then becomes KeyboardInterrupt.
    """
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    came: list[int] = []
    report_ignored = sys.unraisablehook

    def report_others(ignored: "UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):  # swallowed by a destructor: it is raised again
            report_ignored(ignored)

    def interrupt(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        if not came or sys.exception() is None:
            came.append(number)
            raise KeyboardInterrupt

    try:
        sys.unraisablehook = report_others
        for number in SIGNALS:
            if before[number] != signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield
    except BaseException as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, before)  # one that comes now is answered as before the block
        if came:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = report_ignored
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def kept_from_processes() -> Iterator[None]:
    """Start no process in the block that Ctrl-C, which a terminal sends to all, ends: this one ends it.

    Here, a signal is answered when the block ends: a process that is half started would show a traceback.
    """
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    answered = {number: handler for number, handler in handlers.items() if callable(handler)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # a process inherits what is blocked
    for number in answered:  # what is blocked here may come by another thread
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in answered.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        if came:
            signal.raise_signal(came[0])


def _ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
