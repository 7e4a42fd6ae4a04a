"""Formats recommendations as a table, as JSON, or as rows of a Parquet file."""

import json
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from sasrec.core import visible
from sasrec.io import parquet
from sasrec.serving.recommender import Recommendations, Recommended
from sasrec.serving.vocabulary import Vocabulary
from sasrec.split.sequences import Sequences

OUTPUT = pa.schema([("user_id", pa.string()), ("rank", pa.int32()), ("book_id", pa.string()), ("score", pa.float32())])


def as_json(rows: Sequence[Recommended]) -> str:
    """Return the rows as a JSON list of objects, in ASCII, so that no terminal or reader alters a value."""
    return json.dumps(msgspec.to_builtins(rows), indent=2)


def as_table(rows: Sequence[Recommended]) -> str:
    """Return a header and a line for each row, as text."""
    ids = [visible.text(row.book_id) for row in rows]
    titles = [visible.text(row.title or "") for row in rows]
    width = max(map(len, ["book_id", *ids]))
    header = f"{'rank':>4}  {'book_id':<{width}}  {'score':>8}  title"
    lines = [
        f"{row.rank:>4}  {id_:<{width}}  {row.score:>8.3f}  {title}".rstrip()
        for row, id_, title in zip(rows, ids, titles, strict=True)
    ]
    return "\n".join([header if any(titles) else header.removesuffix("  title"), *lines])


def parts(histories: Sequences, num_users: int) -> Iterator[tuple[int, Sequences]]:
    """Yield the index of the first user and the histories of `num_users` consecutive users at a time."""
    for first in range(0, len(histories), num_users):
        offsets = histories.offsets[first : first + num_users + 1]
        yield first, Sequences(histories.items[offsets[0] : offsets[-1]], offsets - offsets[0])


def as_batch(found: Recommendations, users: Vocabulary, first: int, books: Vocabulary) -> pa.RecordBatch:
    """Return the recommendations as rows of OUTPUT, by user and rank; the first user has index `first`."""
    user, column = np.nonzero(found.books)  # (recommendations,) each
    columns = [
        users.ids_of(first + user),
        parquet.as_arrow((column + 1).astype(np.int32)),
        books.ids_of(found.books[user, column]),
        parquet.as_arrow(found.scores[user, column]),
    ]
    return pa.record_batch(columns, schema=OUTPUT)
