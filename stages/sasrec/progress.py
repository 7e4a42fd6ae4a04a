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
def reading(path: Path, label: str) -> Iterator[io.FileIO]:
    """Open the file at `path`, unbuffered, and show its share read, and the bytes a second, under `label`."""
    with (
        _Counted(path) as file,
        tqdm(desc=label, total=path.stat().st_size, unit="B", unit_scale=True, disable=None) as file.bar,
    ):
        yield file


class _Counted(io.FileIO):
    bar: "tqdm[NoReturn]"

    def readinto(self, buffer: "WriteableBuffer", /) -> int:  # what isal and hashlib call
        num_read = super().readinto(buffer)
        self.bar.update(num_read)
        return num_read
