"""Prints the books to read next for one reader, or writes those of every reader, from what the stages wrote."""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sasrec import reproducibility

os.environ.update(reproducibility.environment())  # before torch is imported, which reads them once

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec import (
    device,
    errors,
    holdout,
    inputs,
    interactions_file,
    outputs,
    params,
    titles,
    train_params,
    visible,
    vocabulary,
)
from sasrec.recommender import Recommendations, Recommender
from sasrec.sequences import Sequences

MODELS = Path("models")
REVIEWS = Path("data/interim/reviews.parquet")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
INTERACTIONS = Path("data/processed/interactions.parquet")
ROWS_PER_PART = 1 << 16  # of --all, which are held at once
OUTPUT = pa.schema([("user_id", pa.string()), ("rank", pa.int32()), ("book_id", pa.string()), ("score", pa.float32())])


class Recommended(msgspec.Struct, frozen=True):
    """A line of what is printed."""

    rank: int  # from 1
    book_id: str
    score: float  # the model's logit
    title: str | None  # of --titles


def main() -> None:
    """Read the arguments, the params and the model; print or write the recommendations."""
    answer(parse_arguments(sys.argv[1:]))


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; exit with status 2 and the usage where they cannot be used."""
    parser = argparse.ArgumentParser(prog="recommend.py", description="Recommends the books to read next.")
    readers = parser.add_mutually_exclusive_group(required=True)
    readers.add_argument("--user", type=identifier, metavar="ID", help="a reader of the data set")
    readers.add_argument(
        "--history", type=identifier, metavar="ID,ID,...", help="the books that someone read, oldest first"
    )
    readers.add_argument("--all", type=Path, metavar="OUT.parquet", help="every reader of the data set, into a file")
    parser.add_argument("-k", type=int, default=10, help="books a reader (10)")
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--exclude-seen", action="store_true", default=True, help="nothing already read (the default)")
    seen.add_argument("--include-seen", action="store_false", dest="exclude_seen", help="re-reads as well")
    parser.add_argument("--titles", type=Path, metavar="FILE", help="a CSV file with the columns book_id and title")
    parser.add_argument("--format", choices=["table", "json"], default="table", help="of what is printed (table)")
    arguments = parser.parse_args(words)
    if arguments.all and arguments.all.suffix != ".parquet":
        parser.error(f"--all writes a Parquet file, but {arguments.all} does not end in .parquet; name it so")
    if arguments.all and (arguments.titles or arguments.format != "table"):
        parser.error("--titles and --format are of what is printed, and --all prints nothing")
    return arguments


def identifier(word: str) -> str:
    """Return an argument as it was typed: ids are in UTF-8, and Python reads arguments in the locale's encoding.

    Raises:
        argparse.ArgumentTypeError: it is not in UTF-8.

    """
    try:
        return os.fsencode(word).decode() if visible.UNDECODED.search(word) else word
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{visible.text(word)} is not in UTF-8") from None


def answer(arguments: argparse.Namespace) -> None:
    """Do what `arguments` ask; raise UserError where an id or a file cannot be used."""
    evaluation = params.load("evaluation", holdout.EvaluationParams)
    train = params.load("train", train_params.TrainParams)
    errors.require(USERS, BOOKS)
    where = device.use(train.device, train.num_threads)
    recommender = Recommender.load(MODELS, padding=evaluation.padding)
    recommender.model.to(where)
    books = vocabulary.books(BOOKS)
    with inputs.reading(BOOKS):
        if recommender.num_books != len(books):
            raise ValueError(f"it has {len(books)} books, the model {recommender.num_books}")
    if not 1 <= arguments.k <= len(books):
        raise errors.UserError(f"-k is {arguments.k}; choose one of 1 to {len(books)}, the number of books")
    if arguments.all:
        write_all(recommender, books, arguments)
        return
    history = known_books(arguments.history, books) if arguments.user is None else history_of(arguments.user)
    names = titles.read(arguments.titles) if arguments.titles else {}
    found = recommender.recommend([history], arguments.k, exclude_seen=arguments.exclude_seen)
    rows = as_rows(found, books, names)
    print(as_json(rows) if arguments.format == "json" else as_table(rows))


def history_of(user_id: str) -> list[int]:
    """Return the books of a reader; raise UserError where there is no such reader, with the reason."""
    errors.require(INTERACTIONS)
    (reader,) = vocabulary.readers(USERS).indices_of([user_id])
    if reader is None:
        raise errors.UserError(f"--user {user_id}: {why_unknown('user_id', user_id)}; --history takes books instead")
    histories = interactions_file.read(INTERACTIONS, USERS, BOOKS).histories
    return histories.items[histories.offsets[reader] : histories.offsets[reader + 1]].tolist()


def known_books(listed: str, books: vocabulary.Vocabulary) -> list[int]:
    """Return the books that the model knows, and name the others; raise UserError where it knows none."""
    book_ids = listed.split(",")
    indices = books.indices_of(book_ids)
    unknown = [book_id for book_id, index in zip(book_ids, indices, strict=True) if index is None]
    for book_id in unknown:
        note = f"--history: book {book_id} is left out: {why_unknown('book_id', book_id)}"
        print(visible.text(note), file=sys.stderr)
    known = [index for index in indices if index is not None]
    if not known:
        raise errors.UserError(f"--history: none of its books is known; give book_id of {BOOKS}")
    return known


def why_unknown(column: str, value: str) -> str:
    """Return why an id has no index: never in the dump, or dropped by the filter."""
    if not REVIEWS.is_file():
        return f"not in {USERS if column == 'user_id' else BOOKS}"
    with inputs.opened_parquet(REVIEWS, pa.schema([(column, pa.string())])) as file:
        number = sum(pc.sum(pc.equal(batch[column], value)).as_py() for batch in file.iter_batches(columns=[column]))
    if number == 0:
        return "not in the dump"
    who = "the reader" if column == "user_id" else "every reader of it"
    return f"{number} of its reviews are in the dump, but the filter dropped {who} (filter_reindex.min_ratings)"


def as_rows(found: Recommendations, books: vocabulary.Vocabulary, names: dict[str, str]) -> list[Recommended]:
    """Return the recommendations of one reader."""
    number = np.count_nonzero(found.books[0])
    ids = books.ids_of(found.books[0, :number]).to_pylist()
    scored = zip(ids, found.scores[0, :number].tolist(), strict=True)
    return [
        Recommended(rank, each, round(score, 6), names.get(each)) for rank, (each, score) in enumerate(scored, start=1)
    ]


def as_json(rows: Sequence[Recommended]) -> str:
    """Return the rows as a JSON list of objects, in ASCII: the values are exact, whatever shows or reads them."""
    return json.dumps(msgspec.to_builtins(rows), indent=2)


def as_table(rows: Sequence[Recommended]) -> str:
    """Return the rows as text, a line each under a header."""
    ids = [visible.text(row.book_id) for row in rows]
    titles_shown = [visible.text(row.title or "") for row in rows]
    width = max(map(len, ["book_id", *ids]))
    header = f"{'rank':>4}  {'book_id':<{width}}  {'score':>8}  title"
    lines = [
        f"{row.rank:>4}  {id_:<{width}}  {row.score:>8.3f}  {title}".rstrip()
        for row, id_, title in zip(rows, ids, titles_shown, strict=True)
    ]
    return "\n".join([header if any(titles_shown) else header.removesuffix("  title"), *lines])


def write_all(recommender: Recommender, books: vocabulary.Vocabulary, arguments: argparse.Namespace) -> None:
    """Write what every reader may like to the file of --all, some thousand readers at a time."""
    errors.require(INTERACTIONS)
    readers = vocabulary.readers(USERS)
    histories = interactions_file.read(INTERACTIONS, USERS, BOOKS).histories
    # Of a symbolic link the file that it leads to is written: the user means that one.
    with outputs.whole(arguments.all.resolve()) as partial, outputs.parquet(partial, OUTPUT) as rows:
        for first, part in parts(histories, max(1, ROWS_PER_PART // arguments.k)):
            found = recommender.recommend(part, arguments.k, exclude_seen=arguments.exclude_seen)
            rows.write(as_batch(found, readers, first, books))


def parts(histories: Sequences, num_readers: int) -> Iterator[tuple[int, Sequences]]:
    """Yield the histories of the next `num_readers` readers, with the first one's number."""
    for first in range(0, len(histories), num_readers):
        offsets = histories.offsets[first : first + num_readers + 1]
        yield first, Sequences(histories.items[offsets[0] : offsets[-1]], offsets - offsets[0])


def as_batch(
    found: Recommendations, readers: vocabulary.Vocabulary, first: int, books: vocabulary.Vocabulary
) -> pa.RecordBatch:
    """Return the recommendations of the readers from `first` on, by reader and rank."""
    reader, place = np.nonzero(found.books)
    columns = [
        readers.ids_of(first + reader),
        pa.array((place + 1).astype(np.int32)),
        books.ids_of(found.books[reader, place]),
        pa.array(found.scores[reader, place]),
    ]
    return pa.record_batch(columns, schema=OUTPUT)


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
