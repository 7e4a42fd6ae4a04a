"""The options that several subcommands share."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sasrec.core import errors, visible

if TYPE_CHECKING:
    from sasrec.serving.recommender import Recommender


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add --model and --device."""
    parser.add_argument("--model", type=Path, default=Path("models"), metavar="FOLDER", help="of the model (models)")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="that computes (auto)")


def add_k(parser: argparse.ArgumentParser) -> None:
    """Add -k."""
    parser.add_argument("-k", type=int, default=10, help="the number of books (10)")


def add_titles(parser: argparse.ArgumentParser) -> None:
    """Add --titles."""
    parser.add_argument("--titles", type=Path, metavar="FILE", help="a file with titles (docs/your-data.md)")


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add --format."""
    parser.add_argument("--format", choices=["table", "json"], default="table", help="of what is printed (table)")


def load(asked: argparse.Namespace) -> "Recommender":
    """Return the recommender that the options name, on its device.

    Raises:
        UserError: the model cannot be used, or k is out of range.

    """
    from sasrec.runtime import cores, device
    from sasrec.serving.recommender import Recommender

    recommender = Recommender.load(asked.model, titles_from=asked.titles)
    if not 1 <= asked.k <= recommender.num_books:
        raise errors.UserError(f"-k is {asked.k}; choose one of 1 to {recommender.num_books}, the number of books")
    recommender.model.network.to(device.use(asked.device, cores.available()))
    return recommender


def whole(word: str) -> int:
    """Return the whole number from 0 that `word` writes; raise ArgumentTypeError if it is none."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{visible.text(word)} is no whole number from 0")
    return int(word)


def identifier(word: str) -> str:
    """Return `word` decoded as UTF-8, the encoding of ids: Python decodes arguments in the locale's encoding.

    Raises:
        argparse.ArgumentTypeError: the argument is not UTF-8.

    """
    try:
        return os.fsencode(word).decode() if visible.UNDECODED.search(word) else word
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{visible.text(word)} is not in UTF-8") from None


def identifiers(word: str) -> list[str]:
    """Return the ids of the file that `word` names, one on each line, or else those between its commas.

    Raises:
        argparse.ArgumentTypeError: the argument or the file is not UTF-8.

    """
    path = Path(word)
    try:
        is_file = path.is_file()
    except OSError:  # ids that are together longer than a name may be
        is_file = False
    try:
        ids = path.read_text(encoding="utf-8-sig").split("\n") if is_file else identifier(word).split(",")
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{path} is not in UTF-8") from None
    return [id_ for id_ in ids if id_.strip()]
