"""Reads every reader's books back from the tables that filter_reindex writes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sasrec import inputs
from sasrec.sequences import Sequences, from_sorted_rows

COLUMNS = pa.schema([("user_idx", pa.int32()), ("timestamp", pa.date32()), ("book_idx", pa.int32())])
COUNTS = pa.schema([("num_ratings", pa.int64())])  # of users and books


class Readings(NamedTuple):
    """Who read what, and when."""

    histories: Sequences  # reader r is the one of user_idx r
    days: np.ndarray  # of histories.items, (total,) int32, days since 1970
    num_books: int


def read(interactions: Path, users: Path, books: Path) -> Readings:
    """Return what the three tables hold.

    Raises:
        UserError: a file is damaged, or the three are not of one run.

    """
    table = inputs.read_parquet(interactions, COLUMNS)
    user_idx, book_idx = (inputs.as_numpy(table[name]) for name in ("user_idx", "book_idx"))
    counts = [inputs.read_parquet(path, COUNTS)["num_ratings"] for path in (users, books)]
    of_readers, of_books = map(inputs.as_numpy, counts)  # the number of ratings of each
    num_readers, num_books = len(of_readers), len(of_books)
    with inputs.reading(interactions):
        steps = np.diff(user_idx, prepend=-1)
        if steps[0] != 1 or steps.min() < 0 or steps.max() > 1 or user_idx[-1] != num_readers - 1:
            raise ValueError(f"its readers are not the {num_readers} of {users}")
        if (book_idx.min(), book_idx.max()) != (1, num_books):
            raise ValueError(f"its books are not the {num_books} of {books}")
        if not np.array_equal(np.bincount(user_idx), of_readers):
            raise ValueError(f"a reader has another number of ratings in it than in {users}")
        if not np.array_equal(np.bincount(book_idx)[1:], of_books):
            raise ValueError(f"a book has another number of ratings in it than in {books}")
    days = inputs.as_numpy(table["timestamp"].cast("int32"))
    return Readings(from_sorted_rows(user_idx, book_idx, num_readers), days, num_books)
