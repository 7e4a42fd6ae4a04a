"""Reads and writes the model as one folder, which needs no file beside it.

It holds no user's history: what the hybrid needs are counts of which books follow which.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from sasrec.core.errors import UserError
from sasrec.io import digests, files, parquet
from sasrec.model.sasrec import Config, HybridWeights, Sasrec, load_model, save_model
from sasrec.serving import vocabulary
from sasrec.serving.vocabulary import Vocabulary
from sasrec.split import transitions
from sasrec.split.transitions import Transitions

FORMAT = 3  # of the folder; a library reads only its own
NAME = "sasrec"  # of the folder
DESCRIPTION, WEIGHTS, BOOKS, TRANSITIONS = "model.json", "weights.safetensors", "books.parquet", "transitions.parquet"
CARD = "README.md"
BOOKS_SCHEMA = pa.schema(
    [("book_idx", pa.int32()), ("book_id", pa.string()), ("ratings", pa.int64()), ("recent_ratings", pa.int64())]
)
TRANSITIONS_SCHEMA = pa.schema([("book_idx", pa.int32()), ("next_book_idx", pa.int32()), ("weight", pa.int64())])
ROWS_AT_ONCE = 1 << 20
VERSION_DIGITS = 12
ADVICE = "get the folder again, all of it"


class Description(msgspec.Struct, frozen=True):
    """The content of model.json."""

    format: int
    version: str  # of the content of all files but the card, which a person may edit
    padding: bool  # of short histories, on the left (evaluation.padding)
    config: Config


@dataclass(frozen=True)
class Model:
    """A trained model with everything that recommending needs."""

    network: Sasrec
    hybrid: HybridWeights
    padding: bool
    books: Vocabulary
    ratings: np.ndarray  # (num_books + 1,) int64: of each book_idx, by training users
    recent_ratings: np.ndarray  # (num_books + 1,) int64: those of the latest days
    transitions: Transitions
    version: str = ""

    @property
    def num_books(self) -> int:
        """The number of books in the catalogue."""
        return self.network.num_books


def write(folder: Path, model: Model, card: str) -> None:
    """Write `model` and its card into `folder`; model.json is written last."""
    files.make_folders(folder / CARD)
    with files.atomic_write(folder / WEIGHTS) as partial:
        save_model(partial, model.network)
    columns = [
        parquet.as_arrow(np.arange(1, model.num_books + 1, dtype=np.int32)),
        model.books.ids,
        parquet.as_arrow(model.ratings[1:]),
        parquet.as_arrow(model.recent_ratings[1:]),
    ]
    parquet.write(folder / BOOKS, pa.table(columns, BOOKS_SCHEMA).to_reader())
    _write_transitions(folder / TRANSITIONS, model.transitions)
    with files.atomic_write(folder / CARD) as partial:
        partial.write_text(card, encoding="utf-8")
    config = Config(model.num_books, model.network.params, model.hybrid)
    described = Description(FORMAT, _version(folder, config, padding=model.padding), model.padding, config)
    content = msgspec.json.encode(msgspec.to_builtins(described) | digests.METADATA)
    with files.atomic_write(folder / DESCRIPTION) as partial:
        partial.write_bytes(digests.fill(msgspec.json.format(content, indent=2) + b"\n"))


def find(folder: Path) -> Path:
    """Return `folder`, or the folder `sasrec` in it if that has the model."""
    inner = folder / NAME
    return inner if inner.is_dir() and not (folder / DESCRIPTION).is_file() else folder


def load(folder: Path) -> Model:
    """Return the model that `write` wrote into `folder`, as `find` finds it, on the CPU.

    Raises:
        UserError: a file is missing, damaged, of another model, or of another format.

    """
    folder = find(folder)
    missing = [name for name in (DESCRIPTION, WEIGHTS, BOOKS, TRANSITIONS) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder / missing[0]}: not found; give the folder `{NAME}` that the pipeline's evaluate writes"
        )
    described = _description(folder / DESCRIPTION)
    if described.version != _version(folder, described.config, padding=described.padding):
        raise UserError(f"{folder}: its files are not those of one model; {ADVICE}")
    network = load_model(folder / WEIGHTS, described.config)
    table = parquet.read(folder / BOOKS, BOOKS_SCHEMA)
    books = vocabulary.of_table(table, folder / BOOKS, "book", first=1, number=network.num_books)
    ratings, recent = (np.concatenate([[0], parquet.as_numpy(table[name])]) for name in BOOKS_SCHEMA.names[2:])
    counted = _read_transitions(folder / TRANSITIONS, network.num_books)
    hybrid, version = described.config.hybrid, described.version
    return Model(network, hybrid, described.padding, books, ratings, recent, counted, version)


def _description(path: Path) -> Description:
    with files.naming_damage(path):
        content = path.read_bytes()
        found = msgspec.json.decode(content).get("format")
        if found != FORMAT:
            raise UserError(
                f"{path}: is of format {found}, and this library reads {FORMAT}; install the one that wrote it"
            )
        digests.check(content)
        return msgspec.json.decode(content, type=Description)


def _version(folder: Path, config: Config, *, padding: bool) -> str:
    digest = hashlib.sha256(msgspec.json.encode([config, padding]))
    for name in (WEIGHTS, BOOKS, TRANSITIONS):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:VERSION_DIGITS]


def _write_transitions(path: Path, counted: Transitions) -> None:
    firsts = np.repeat(np.arange(len(counted.starts) - 1, dtype=np.int32), np.diff(counted.starts))
    with files.atomic_write(path) as partial, parquet.writer(partial, TRANSITIONS_SCHEMA) as rows:
        for start in range(0, len(firsts), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            columns = [firsts[part], counted.books[part].astype(np.int32), counted.weights[part]]
            rows.write(pa.record_batch([*map(parquet.as_arrow, columns)], schema=TRANSITIONS_SCHEMA))


def _read_transitions(path: Path, num_books: int) -> Transitions:
    table = parquet.read(path, TRANSITIONS_SCHEMA)
    firsts, books, weights = (parquet.as_numpy(table[name]) for name in TRANSITIONS_SCHEMA.names)
    with files.naming_damage(path):
        if len(books) and not (books.min() >= 1 and books.max() <= num_books and (np.diff(firsts) >= 0).all()):
            raise ValueError(f"a book is not in 1..{num_books}, or they do not ascend")
        return transitions.from_rows(firsts, books, weights, num_books)
