"""Shows on a terminal how much of a file is read; shows nothing if standard error is no terminal."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from tqdm import tqdm


@contextmanager
def open_with_progress(path: Path, label: str) -> Iterator[io.RawIOBase]:
    """Open the file at `path`, unbuffered; show the fraction read and the bytes per second under `label`."""
    with path.open("rb", buffering=0) as file, counted(file, path.stat().st_size, label) as counting:
        yield counting


@contextmanager
def counted(file: io.RawIOBase, num_bytes: int, label: str) -> Iterator[io.RawIOBase]:
    """Yield a reader of `file` that shows under `label` how many of its `num_bytes` are read."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # where a model is served; tqdm comes with the extra `pipeline`
        yield file
        return
    with tqdm(desc=label, total=num_bytes, unit="B", unit_scale=True, disable=None) as bar:
        yield _Counted(file, bar)


class _Counted(io.RawIOBase):
    def __init__(self, file: io.RawIOBase, bar: "tqdm[NoReturn]") -> None:
        self._file = file
        self._bar = bar

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int | None:  # isal and hashlib call it
        num_read = self._file.readinto(buffer)
        self._bar.update(num_read)
        return num_read
