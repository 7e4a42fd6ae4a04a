"""Writes files atomically, and names a damaged file to the user.

Tables, tensors and the model hold a digest of their content (`digests`). Each stage checks the digest before it uses
the file. It also checks that related files agree, so that it finds a file of another run.

DVC does not notice damage in place: it never hashes a write-protected file of its cache again, and a workspace file is
a link to one. `dvc repro` would even restore the damaged bytes. `make heal` (checks/heal.py) hashes every object of the
cache, so messages name it as the remedy.
"""

import csv
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sasrec.core.errors import UserError, lack

REMEDY = "if it is damaged or of another run, `make heal` makes it again"


def make_folders(*paths: Path) -> None:
    """Make the folders of a stage's outputs: git keeps no empty folder, and nothing else makes them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)


def require_replaceable(path: Path) -> None:
    """Raise UserError if `path` is something other than a regular file, or its folder is missing."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no regular file, and is not replaced; give another name, or move it away")
    if not path.parent.is_dir():
        raise UserError(f"{path}: cannot be written: there is no folder {path.parent}; make it first")


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn a failure of the block into a UserError that names `path` and the remedy.

    Ctrl-C, a UserError, a lack of memory or threads, and an OSError that names a file pass unchanged.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # every library has its own exceptions
        if isinstance(error.__cause__, KeyboardInterrupt):  # DuckDB turns Ctrl-C into its own exception
            raise KeyboardInterrupt from None
        if isinstance(error, OSError) and error.filename:  # about another file, or no damage
            raise
        if lack(error):  # of memory or threads
            raise
        raise UserError(f"{path}: cannot be used: {error}; {REMEDY}") from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to. If the block ends well, the written file becomes `path`; otherwise it is removed.

    On Linux the file has no name until then, so that not even SIGKILL leaves a partial file. A symbolic link at `path`
    is replaced; its target stays.

    Raises:
        UserError: see `require_replaceable`.
        OSError: writing failed; its filename is `path` unless the cause names another file.

    """
    require_replaceable(path)
    _sweep(path, is_ours=Path.is_file)
    partial = _partial(path)
    with _naming(path):
        try:
            with _unnamed(path.parent) as descriptor:
                if descriptor is None:
                    yield partial
                    _flush_to_disk(partial)
                    partial.replace(path)
                else:
                    yield Path(f"/proc/self/fd/{descriptor}")
                    os.fsync(descriptor)
                    _give_name(descriptor, path)
            _flush_to_disk(path.parent)  # makes the new name durable
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Yield a path for a file, a link or a folder, which replaces `path`, even a folder, if the block ends well.

    Use it only for a stage's own output: a folder at `path` is removed with its content.

    Raises:
        OSError: see `atomic_write`.

    """
    _sweep(path, is_ours=Path.exists)
    partial = _partial(path)
    with _naming(path):
        try:
            yield partial
            for written in (*partial.rglob("*"), partial):
                _flush_to_disk(written)
            if partial.is_dir() or path.is_dir():  # rename replaces a file only by a file
                _remove(path)
            partial.replace(path)
            _flush_to_disk(path.parent)
        finally:
            _remove(partial)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Yield the path of a folder in `parent`, which the caller makes if needed; remove it when the block ends.

    Folders that killed runs left are removed first.
    """
    folder = parent / "scratch"
    _sweep(folder, is_ours=Path.is_dir)
    try:
        yield _partial(folder)
    finally:
        _remove(_partial(folder))


def _partial(path: Path) -> Path:
    """Return the path beside `path` to write it under; it holds the process id, so that two runs never mix."""
    return path.with_name(f"{path.name}.{os.getpid()}.partial")


def _sweep(path: Path, is_ours: Callable[[Path], bool]) -> None:
    """Remove what killed runs left beside `path`: each entry that `_partial` names and `is_ours` accepts."""
    name = re.compile(re.escape(path.name) + r"\.[0-9]+\.partial")
    for leftover in path.parent.iterdir():
        if name.fullmatch(leftover.name) and is_ours(leftover):
            _remove(leftover)


@contextmanager
def _unnamed(folder: Path) -> Iterator[int | None]:
    """Yield the descriptor of a new file without a name in `folder`; None where the system has no such files."""
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
    except (AttributeError, OSError):  # not Linux, or the file system has none
        yield None
        return
    try:
        yield descriptor if Path(f"/proc/self/fd/{descriptor}").exists() else None
    finally:
        os.close(descriptor)


def _give_name(descriptor: int, path: Path) -> None:
    """Name an open file without a name `path`; if `path` is taken, use another name and rename."""
    if _link(descriptor, path):
        return
    partial = _partial(path)
    if not _link(descriptor, partial):  # some systems make files without a name but cannot name them
        shutil.copyfile(f"/proc/self/fd/{descriptor}", partial)
        _flush_to_disk(partial)
    partial.replace(path)


def _link(descriptor: int, path: Path) -> bool:
    try:
        # With src_dir_fd, which an absolute path ignores, os.link follows the symbolic link.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)
    except OSError:
        return False
    return True


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make an OSError of the block name `path`: write() and pyarrow name no file, and a copy names its source."""
    try:
        yield
    except OSError as error:
        is_ours = error.filename is None or str(error.filename).startswith(("/proc/self/fd/", str(_partial(path))))
        if is_ours or error.errno == errno.ENOSPC:
            error.filename = str(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON."""
    with atomic_write(path) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write `rows` as CSV under `header`."""
    with atomic_write(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
