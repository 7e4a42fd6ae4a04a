"""Recommends books from a clone; the same as `sasrec recommend`."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import sys

from sasrec.commands import main
from sasrec.core import errors

if __name__ == "__main__":
    errors.run(lambda: main.run(["recommend", *sys.argv[1:]]), interrupts.OF_A_TOOL)
