"""Finds users and books by id, and explains unknown ids."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from sasrec.core import visible
from sasrec.core.errors import UserError
from sasrec.io import parquet
from sasrec.serving.vocabulary import Vocabulary


def user_index(user_id: str, users: Vocabulary, reviews: Path) -> int:
    """Return the index of a user; raise a UserError with the reason if the user is unknown."""
    (user,) = users.indices_of([user_id])
    if user is None:
        raise UserError(f"--user {user_id}: {why_unknown('user_id', user_id, reviews)}; --history takes books instead")
    return user


def report_unknown(option: str, book_ids: Sequence[str], books: Vocabulary, reviews: Path) -> None:
    """Name on standard error each of the books that `option` lists and the model does not know, with the reason."""
    for book_id, index in zip(book_ids, books.indices_of(book_ids), strict=True):
        if index is None:
            note = f"{option}: book {book_id.strip()} is left out: {why_unknown('book_id', book_id, reviews)}"
            print(visible.text(note), file=sys.stderr)


def why_unknown(column: str, value: str, reviews: Path) -> str:
    """Return why an id has no index: the filter dropped it, or it is not in `reviews`, the table of the dump."""
    if not reviews.is_file():
        return "not among the users and books that the filter kept"
    with parquet.opened(reviews, pa.schema([(column, pa.string())])) as file:
        names = pa.array([value, value.strip()])  # of which `Vocabulary.indices_of` takes either
        number = sum(pc.sum(pc.is_in(batch[column], names)).as_py() for batch in file.iter_batches(columns=[column]))
    if number == 0:
        return "not in the dump"
    kind = "user" if column == "user_id" else "book"
    return f"{number} of its reviews are in the dump, but the filter dropped the {kind} (filter_reindex in params.yaml)"
