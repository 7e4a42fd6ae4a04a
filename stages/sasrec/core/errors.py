"""Ends a stage with one line instead of a traceback where its user can mend the cause."""

import gc
import os
import re
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from sasrec.core import interrupts, visible

OUT_OF_MEMORY = re.compile("(?i)(allocate|not enough|out of) memory|bad[_ ]alloc")


class UserError(Exception):
    """A fault in the input or the params that a user can mend; the message says what, where and how."""


def require(*paths: Path) -> None:
    """Raise UserError if one of `paths`, which earlier stages write, is missing."""
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: not found; run `dvc repro`, which makes it first")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether `error` says that Python or a library could not allocate memory, on any device."""
    return isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)) is not None


def lack(error: Exception) -> str | None:
    """Return one line on the memory or threads that this machine or a limit lacks, if that caused `error`; else None.

    The message decides, because libraries raise exceptions of any type.
    """
    message = " ".join(str(error).split())
    if is_out_of_memory(error):
        return f"out of memory ({message}); close other programs, or take less data"
    if re.search("(start new|launch worker) thread|Resource temporarily unavailable", message):
        return f"no more threads can be started ({message}); close other programs, or raise the limit (`ulimit -u`)"
    return None


def run(main: Callable[[], None], advice: str = interrupts.OF_A_STAGE) -> None:
    """Call `main`; exit with status 1 and one line on standard error where a user can mend the cause.

    Such causes are UserError, OSError, a lack that `lack` recognises, Ctrl-C and SIGTERM. For the last two, the line
    ends in `advice`. Where the reader of standard output has gone, as `head` does, the program ends as others do: with
    the status of SIGPIPE and no line.
    """
    visible.on_any_terminal()
    try:
        with interrupts.raised():
            main()
            sys.stdout.flush()
    except UserError as error:
        sys.exit(_line(str(error)))
    except KeyboardInterrupt:
        interrupts.say(advice)
        sys.exit(1)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what Python flushes at the end
            sys.exit(128 + signal.SIGPIPE)
        lacking = lack(error)
        if isinstance(error, OSError) and (error.filename or not lacking):
            sys.exit(_line(f"{error.filename or 'input or output'}: {error.strerror or error}"))
        if lacking:
            sys.exit(_line(lacking))
        raise
    finally:
        gc.freeze()  # skips the collection at exit, which spends a quarter of a second on torch's objects


def _reader_is_gone() -> bool:
    """Return whether nobody reads the pipe that standard output is."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # reports an error or a hang-up, whatever is asked for
    return bool(poller.poll(0))


def _line(message: str) -> str:
    return "error: " + visible.text(" ".join(message.split()))
