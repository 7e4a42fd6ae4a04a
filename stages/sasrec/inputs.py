"""Reads what an earlier stage wrote, and names the file where it is damaged.

Parquet pages carry a checksum, so that any flipped bit in a column is found. Safetensors and JSON carry none: a stage
checks what must hold of their content, and does not see a damage that leaves it possible. What guards against that is
the digest of every output in dvc.lock: `dvc status` names each file that is not what its stage wrote. But DVC does not
hash a write-protected file of its cache, and a file of the workspace is a link to it: damage in place is in both, and
`dvc repro` and `dvc checkout` put it back. A cache that is not write-protected is hashed, and what is damaged in it is
made again; hence the remedy.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from sasrec import storage
from sasrec.errors import UserError
from sasrec.outputs import ROWS_PER_GROUP

REMEDY = "if it is damaged or of another run, `chmod -R u+w .dvc/cache && dvc repro` makes it again"


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
        raise UserError(f"{path}: cannot be used: {error}; {REMEDY}") from error


@contextmanager
def opened(path: Path) -> Iterator[Path | io.RawIOBase]:
    """Yield what pyarrow reads: `path`, or the file elsewhere to which `path` is a pointer."""
    pointer = storage.pointer(path)
    if pointer is None:
        yield path
    else:
        with storage.opened(pointer) as file:
            yield file


def read_parquet(path: Path, schema: pa.Schema) -> pa.Table:
    """Return the columns that `schema` names, every page's checksum verified.

    Raises:
        UserError: the file is damaged, or a column is missing or of another type.

    """
    with reading(path), opened(path) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
        _require_columns(file.schema_arrow, schema)
        return file.read(columns=schema.names)  # pq.read_table would import pandas


def check_parquet(path: Path, schema: pa.Schema) -> None:
    """Read the columns that `schema` names and keep nothing: DuckDB verifies no checksum.

    Raises:
        UserError: the file is damaged, or a column is missing or of another type.

    """
    texts = [field.name for field in schema if field.type == pa.string()]
    with reading(path), opened(path) as source:
        _require_columns(pq.read_schema(source), schema)
        # As a dictionary a text that is repeated is not copied; nor is a row group cut into several batches.
        with pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=texts) as file:
            for _batch in file.iter_batches(ROWS_PER_GROUP, columns=schema.names):
                pass


def as_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers, none of which is null, as an array of the same type.

    Its own `to_numpy` imports pandas, which takes a quarter of a second.
    """
    return np.from_dlpack(column.combine_chunks())


def num_rows(path: Path) -> int:
    """Return the number of rows of a Parquet file; raise UserError where it is damaged."""
    with reading(path), opened(path) as source:
        return pq.read_metadata(source).num_rows


def read_tensors(path: Path, expected: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors file, whose names, types and dimensions must be those `expected`.

    `expected` maps a name to a type and a number of dimensions, such as "int32 1".

    Raises:
        UserError: the file is damaged, or holds something else.

    """
    with reading(path):
        tensors = load_file(path)
        found = {name: f"{tensor.dtype} {tensor.ndim}" for name, tensor in tensors.items()}
        if found != expected:
            raise ValueError(f"its tensors are {found}, not {dict(expected)}")
        return tensors


def _require_columns(of_file: pa.Schema, schema: pa.Schema) -> None:
    found = pa.schema([of_file.field(name) for name in schema.names])
    if found != schema:
        raise ValueError(f"its columns are {_shown(found)}, not {_shown(schema)}")


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
