"""How a stage ends when its user can mend the cause: one line, no traceback."""

import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path

from sasrec import interrupts, visible


class UserError(Exception):
    """Something in the input or the params that a user can mend; the message says what, where and how."""


def require(*paths: Path) -> None:
    """Raise UserError where one of `paths`, which an earlier stage writes, is missing."""
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: not found; run `dvc repro`, which makes it first")


def lack(error: Exception) -> str | None:
    """Return in one line what this machine, or a limit, has too little of, where that is the cause; else None.

    Libraries tell it by exceptions of any type.
    """
    said = " ".join(str(error).split())
    if isinstance(error, MemoryError) or re.search(r"(?i)allocate memory|out of memory|bad[_ ]alloc", said):
        return f"out of memory ({said}); close other programs, or take less data"
    if re.search("(start new|launch worker) thread|Resource temporarily unavailable", said):
        return f"no more threads can be started ({said}); close other programs, or raise the limit (`ulimit -u`)"
    return None


def run(main: Callable[[], None], advice: str = interrupts.OF_A_STAGE) -> None:
    """Call `main`; exit with status 1 and one line on standard error where a user can mend the cause.

    That is UserError, OSError, what `lack` knows, Ctrl-C and SIGTERM; after these two the line ends in `advice`.
    """
    visible.on_any_terminal()
    try:
        with interrupts.raised():
            main()
    except UserError as error:
        sys.exit(_line(str(error)))
    except KeyboardInterrupt:
        interrupts.say(advice)
        sys.exit(1)
    except Exception as error:
        lacking = lack(error)
        if isinstance(error, OSError) and (error.filename or not lacking):
            sys.exit(_line(f"{error.filename or 'input or output'}: {error.strerror or error}"))
        if lacking:
            sys.exit(_line(lacking))
        raise
    finally:
        gc.freeze()  # nothing is left to collect; looking through torch's objects takes a quarter of a second


def _line(message: str) -> str:
    return "error: " + visible.text(" ".join(message.split()))
