"""Shows on a terminal how far a file is read; where standard error is no terminal, nothing."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tqdm import tqdm

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


@contextmanager
def reading(path: Path, label: str) -> Iterator[io.RawIOBase]:
    """Open the file at `path`, unbuffered, and show its share read, and the bytes a second, under `label`."""
    with path.open("rb", buffering=0) as file, counted(file, path.stat().st_size, label) as counting:
        yield counting


@contextmanager
def counted(file: io.RawIOBase, num_bytes: int, label: str) -> Iterator[io.RawIOBase]:
    """Yield what reads `file`, of `num_bytes`, and shows how far it is."""
    with tqdm(desc=label, total=num_bytes, unit="B", unit_scale=True, disable=None) as bar:
        yield _Counted(file, bar)


class _Counted(io.RawIOBase):
    def __init__(self, file: io.RawIOBase, bar: "tqdm[NoReturn]") -> None:
        self._file = file
        self._bar = bar

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:  # what isal and hashlib call
        num_read = self._file.readinto(buffer)
        self._bar.update(num_read)
        return num_read
