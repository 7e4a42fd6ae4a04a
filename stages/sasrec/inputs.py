"""Reads what an earlier stage wrote, and names the file where it is damaged.

Tables, tensors and the model hold a digest of their content (`digests`), which is checked before anything is used. A
stage also checks what must hold between files, so that it finds one of another run. DVC hashes no write-protected file
of its cache, and a file of the workspace is a link to it: so `dvc status` does not see damage in place, and `dvc repro`
puts it back. `make heal` (checks/heal.py) hashes all of them; hence the remedy.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load

from sasrec import digests, storage
from sasrec.errors import UserError, lack

REMEDY = "if it is damaged or of another run, `make heal` makes it again"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise UserError, which names `path` and the remedy, for whatever goes wrong in the block."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # every library has exceptions of its own
        if isinstance(error.__cause__, KeyboardInterrupt):  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from None
        if isinstance(error, OSError) and error.filename:  # of another file, or no damage
            raise
        if lack(error):  # of memory or threads
            raise
        raise UserError(f"{path}: cannot be used: {error}; {REMEDY}") from error


@contextmanager
def opened(path: Path) -> Iterator[io.RawIOBase | IO[bytes]]:
    """Yield the file at `path`, or the one elsewhere to which `path` is a pointer."""
    pointer = storage.pointer(path)
    with path.open("rb") if pointer is None else storage.opened(pointer) as file:
        yield file


@contextmanager
def opened_parquet(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetFile]:
    """Yield the table at `path`, here or elsewhere, once all of it was read and is what was written.

    Raises:
        UserError: the file is damaged, or a column of `schema` is missing or of another type.

    """
    with reading(path), opened(path) as file:
        digests.check_parquet(file)
        with pq.ParquetFile(file) as table:
            found = pa.schema([table.schema_arrow.field(name) for name in schema.names])
            if found != schema:
                raise ValueError(f"its columns are {_shown(found)}, not {_shown(schema)}")
            _num_rows(table.metadata)
            yield table


def read_parquet(path: Path, schema: pa.Schema) -> pa.Table:
    """Return the columns that `schema` names.

    Raises:
        UserError: the file is damaged, or a column is missing or of another type.

    """
    with opened_parquet(path, schema) as file:
        table = file.read(columns=schema.names)  # pq.read_table would import pandas
        if len(table) != file.metadata.num_rows:
            raise ValueError(f"it holds {len(table)} rows, but its footer says {file.metadata.num_rows}")
        return table


def check_parquet(path: Path, schema: pa.Schema) -> None:
    """Raise UserError where the file is damaged, or a column that `schema` names is missing or of another type."""
    with opened_parquet(path, schema):
        pass


def as_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers, none of which is null, as an array of the same type.

    Its own `to_numpy` imports pandas, which takes a quarter of a second.
    """
    return np.from_dlpack(column.combine_chunks())


def num_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file by its footer, and raise UserError where that contradicts itself.

    The rest of the file, which may be large and elsewhere, is not read.
    """
    with reading(path), opened(path) as file:
        return _num_rows(pq.read_metadata(file))


def read_tensors(path: Path, expected: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file, whose names, types and dimensions must be those `expected`.

    `expected` maps a name to a type and a number of dimensions, such as "int32 1".

    Raises:
        UserError: the file is damaged, or holds something else.

    """
    with reading(path):
        content = path.read_bytes()
        digests.check(content)
        tensors = load(content)
        found = {name: f"{tensor.dtype} {tensor.ndim}" for name, tensor in tensors.items()}
        if found != expected:
            raise ValueError(f"its tensors are {found}, not {dict(expected)}")
        return tensors


def _num_rows(footer: pq.FileMetaData) -> int:
    of_groups = sum(footer.row_group(number).num_rows for number in range(footer.num_row_groups))
    if of_groups != footer.num_rows:
        raise ValueError(f"its footer says {footer.num_rows} rows, but {of_groups} in its row groups")
    return footer.num_rows


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
