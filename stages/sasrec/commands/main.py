"""Finds and runs the subcommand that the user names."""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from sasrec.core import errors
from sasrec.runtime import reproducibility


class Command(NamedTuple):
    """A subcommand: the module of its name has `main(words)`."""

    summary: str
    extra: str | None = None  # of the package, that it needs


COMMANDS = {
    "recommend": Command("the books to read next, for a history, a user of the data set, or every user"),
    "similar": Command("the books nearest to a book"),
    "serve": Command("a page to try the model, and its JSON interface, on this machine", "serve"),
    "export": Command("the network as an ONNX graph", "export"),
    "compare": Command("whether one run of the pipeline is better than another", "pipeline"),
}


def run(words: Sequence[str]) -> None:
    """Run the subcommand that is the first of `words`.

    Raises:
        UserError: see each subcommand; or one of its packages is missing.

    """
    parser = argparse.ArgumentParser(
        prog="sasrec",
        description="Recommends books with a trained SASRec model.",
        epilog="`sasrec COMMAND --help` explains a command.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.summary, add_help=False)
    name = next(iter(words), "")
    if name not in COMMANDS:
        parser.parse_args(words)
        return
    # Torch reads the variables once, when it is imported.
    os.environ.update(reproducibility.ALWAYS | reproducibility.PORTABLE)
    try:
        import_module(f"sasrec.commands.{name}").main(words[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "sasrec":
            raise
        package = f".[{COMMANDS[name].extra}]" if COMMANDS[name].extra else "."
        raise errors.UserError(
            f"`sasrec {name}` needs {error.name}, which is not installed; run in a clone of the project "
            f"`pip install -c constraints.txt '{package}'`"
        ) from None


def main() -> None:
    """Run the subcommand of the command line; end with one line where a user can mend the cause."""
    interrupts.end_at_once(interrupts.OF_A_TOOL)
    errors.run(lambda: run(sys.argv[1:]), interrupts.OF_A_TOOL)


if __name__ == "__main__":
    main()
