"""How a stage ends when its user can mend the cause: one line, no traceback."""

import gc
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


def run(main: Callable[[], None], advice: str = interrupts.OF_A_STAGE) -> None:
    """Call `main`; exit with status 1 and one line on standard error where a user can mend the cause.

    That is UserError, OSError, too little memory, Ctrl-C and SIGTERM; after these two the line ends in `advice`.
    """
    visible.on_any_terminal()
    try:
        with interrupts.raised():
            main()
    except UserError as error:
        sys.exit("error: " + visible.text(" ".join(str(error).split())))
    except OSError as error:
        sys.exit("error: " + visible.text(f"{error.filename or 'input or output'}: {error.strerror or error}"))
    except MemoryError as error:
        sys.exit(f"error: out of memory ({visible.text(error)}); close other programs, or take less data")
    except KeyboardInterrupt:
        interrupts.say(advice)
        sys.exit(1)
    finally:
        gc.freeze()  # nothing is left to collect; looking through torch's objects takes a quarter of a second
