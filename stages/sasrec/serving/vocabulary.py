"""Translates between the ids of the dump and the indices of the tables."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from sasrec.io import files, parquet


class Vocabulary:
    """The ids of consecutive indices, which start at `first`."""

    def __init__(self, ids: pa.Array, first: int) -> None:
        self.ids = ids  # (number,) string
        self.first = first

    def __len__(self) -> int:
        return len(self.ids)

    def indices_of(self, ids: Sequence[str]) -> list[int | None]:
        """Return the index of each id, which may have spaces around it that are not its own; None if it is unknown."""
        return [self._indices.get(id_, self._indices.get(id_.strip())) for id_ in ids]

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {id_: index for index, id_ in enumerate(self.ids.to_pylist(), start=self.first)}

    def ids_of(self, indices: np.ndarray) -> pa.Array:
        """Return the id of each index, (len(indices),) string."""
        return self.ids.take(parquet.as_arrow(indices - self.first))


def users(path: Path, number: int | None = None) -> Vocabulary:
    """Return the users of users.parquet, indexed from 0.

    Raises:
        UserError: the file is damaged, or does not have `number` users, if that is given.

    """
    return _read(path, "user", 0, number)


def books(path: Path, number: int | None = None) -> Vocabulary:
    """Return the books of books.parquet, indexed from 1; raise UserError as `users` does."""
    return _read(path, "book", 1, number)


def _read(path: Path, kind: str, first: int, number: int | None) -> Vocabulary:
    schema = pa.schema([(f"{kind}_idx", pa.int32()), (f"{kind}_id", pa.string())])
    return of_table(parquet.read(path, schema), path, kind, first, number)


def of_table(table: pa.Table, path: Path, kind: str, first: int, number: int | None) -> Vocabulary:
    """Return the vocabulary of a table that was read from `path`; raise UserError as `users` does."""
    table = table.combine_chunks()
    with files.naming_damage(path):
        if not np.array_equal(parquet.as_numpy(table[f"{kind}_idx"]), np.arange(first, first + len(table))):
            raise ValueError(f"its {kind}_idx do not count up from {first}")
        if number not in (None, len(table)):
            raise ValueError(f"it has {len(table)} {kind}s, the split {number}")
        return Vocabulary(table[f"{kind}_id"].chunk(0), first)
