"""Parses the arguments of recommend.py."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from sasrec.core import visible


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(prog="recommend.py", description="Recommends the books to read next.")
    users = parser.add_mutually_exclusive_group(required=True)
    users.add_argument("--user", type=identifier, metavar="ID", help="a user of the data set")
    users.add_argument(
        "--history", type=identifier, metavar="ID,ID,...", help="the books that someone read, oldest first"
    )
    users.add_argument("--all", type=Path, metavar="OUT.parquet", help="every user of the data set, into a file")
    parser.add_argument("-k", type=int, default=10, help="books a user (10)")
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--exclude-seen", action="store_true", default=True, help="nothing already read (the default)")
    seen.add_argument("--include-seen", action="store_false", dest="exclude_seen", help="re-reads as well")
    parser.add_argument("--titles", type=Path, metavar="FILE", help="a file with titles (docs/your-data.md)")
    parser.add_argument("--format", choices=["table", "json"], default="table", help="of what is printed (table)")
    arguments = parser.parse_args(words)
    if arguments.all and arguments.all.suffix != ".parquet":
        parser.error(f"--all writes a Parquet file, but {arguments.all} does not end in .parquet; name it so")
    if arguments.all and (arguments.titles or arguments.format != "table"):
        parser.error("--titles and --format are of what is printed, and --all prints nothing")
    return arguments


def identifier(word: str) -> str:
    """Return `word` decoded as UTF-8, the encoding of ids: Python decodes arguments in the locale's encoding.

    Raises:
        argparse.ArgumentTypeError: the argument is not UTF-8.

    """
    try:
        return os.fsencode(word).decode() if visible.UNDECODED.search(word) else word
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{visible.text(word)} is not in UTF-8") from None
