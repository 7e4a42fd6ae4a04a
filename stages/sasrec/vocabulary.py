"""Translates between the ids of the dump and the indices that stand for them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec import inputs


class Vocabulary:
    """The id of each index, which count up from `first`."""

    def __init__(self, ids: pa.Array, first: int) -> None:
        self.ids = ids  # (number,) string
        self.first = first

    def __len__(self) -> int:
        return len(self.ids)

    def indices_of(self, ids: Sequence[str]) -> list[int | None]:
        """Return the index of each id; None where it is unknown."""
        rows = pc.index_in(pa.array(ids, pa.string(), from_pandas=False), value_set=self.ids).to_pylist()
        return [None if row is None else row + self.first for row in rows]

    def ids_of(self, indices: np.ndarray) -> pa.Array:
        """Return the id of each index, (len(indices),) string."""
        return self.ids.take(pa.array(indices - self.first))


def readers(path: Path) -> Vocabulary:
    """Return the readers of users.parquet, from 0; raise UserError where the file is damaged."""
    return _read(path, "user", first=0)


def books(path: Path) -> Vocabulary:
    """Return the books of books.parquet, from 1; raise UserError where the file is damaged."""
    return _read(path, "book", first=1)


def _read(path: Path, kind: str, first: int) -> Vocabulary:
    schema = pa.schema([(f"{kind}_idx", pa.int32()), (f"{kind}_id", pa.string())])
    table = inputs.read_parquet(path, schema).combine_chunks()
    with inputs.reading(path):
        if not np.array_equal(table[f"{kind}_idx"], np.arange(first, first + len(table))):
            raise ValueError(f"its {kind}_idx do not count up from {first}")
        return Vocabulary(table[f"{kind}_id"].chunk(0), first)
