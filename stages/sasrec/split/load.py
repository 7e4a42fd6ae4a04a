"""Loads every user's history from the tables that filter_reindex writes."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sasrec.io import files, parquet
from sasrec.split.sequences import Sequences, from_sorted_rows

COLUMNS = pa.schema([("user_idx", pa.int32()), ("timestamp", pa.date32()), ("book_idx", pa.int32())])
COUNTS = pa.schema([("num_ratings", pa.int64())])  # read from the users' and the books' table


class Readings(NamedTuple):
    """Which books each user read, and when."""

    histories: Sequences  # sequence r belongs to user_idx r
    days: np.ndarray  # (total,) int32: the day each of histories.items was read, counted from 1970-01-01
    num_books: int


def read(interactions: Path, users: Path, books: Path) -> Readings:
    """Return the readings that the three tables hold.

    Raises:
        UserError: a file is damaged, or the tables do not come from one run.

    """
    table = parquet.read(interactions, COLUMNS)
    user_idx, book_idx = (parquet.as_numpy(table[name]) for name in ("user_idx", "book_idx"))
    counts = [parquet.read(path, COUNTS)["num_ratings"] for path in (users, books)]
    user_counts, book_counts = map(parquet.as_numpy, counts)  # (users,) and (books,) int64
    num_users, num_books = len(user_counts), len(book_counts)
    with files.naming_damage(interactions):
        steps = np.diff(user_idx, prepend=-1)
        if steps[0] != 1 or steps.min() < 0 or steps.max() > 1 or user_idx[-1] != num_users - 1:
            raise ValueError(f"its users are not the {num_users} of {users}")
        if (book_idx.min(), book_idx.max()) != (1, num_books):
            raise ValueError(f"its books are not the {num_books} of {books}")
        if not np.array_equal(np.bincount(user_idx), user_counts):
            raise ValueError(f"a user has another number of ratings in it than in {users}")
        if not np.array_equal(np.bincount(book_idx)[1:], book_counts):
            raise ValueError(f"a book has another number of ratings in it than in {books}")
    days = parquet.as_numpy(table["timestamp"].cast("int32"))
    return Readings(from_sorted_rows(user_idx, book_idx, num_users), days, num_books)
