"""Finds an output of a run: of the workspace, another clone, a git revision or an experiment."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException

from sasrec.core import errors
from sasrec.core.errors import UserError

WORKSPACE = "workspace"  # DVC's own word


@contextmanager
def output(path: Path, run: str) -> Iterator[Path]:
    """Yield where the file is that `run` wrote to `path`; a file of DVC's cache or remote is copied for the block.

    `run` is `workspace`, the folder of another clone, a git revision or the name of an experiment.

    Raises:
        UserError: there is no such run, or the file of it is nowhere.

    """
    if run == WORKSPACE:
        errors.require(path)
        yield path
    elif Path(run, "dvc.yaml").is_file():
        there = Path(run, path)
        if not there.is_file():
            raise UserError(f"{there}: not found; run `dvc repro` in {run}, which makes it first")
        yield there
    else:
        with TemporaryDirectory() as folder:
            copied = Path(folder, path.name)
            _copy(path, run, copied)
            try:
                yield copied
            except UserError as error:
                raise UserError(str(error).replace(str(copied), f"{path} of {run}")) from None


def _copy(path: Path, revision: str, destination: Path) -> None:
    """Copy the output `path` of `revision`, as its dvc.lock names it, from DVC's cache or the remote."""
    try:
        files = DVCFileSystem(rev=revision)
        files.info(path.as_posix())
    except DvcException as error:
        raise UserError(
            f"{revision}: {error}; name a git revision, an experiment (`dvc exp show` lists them), the folder of "
            f"another clone, or `{WORKSPACE}`"
        ) from None
    except FileNotFoundError:
        raise UserError(
            f"{revision}: its dvc.lock has no {path}, because it is older than that output; name a newer run"
        ) from None
    try:
        files.get_file(path.as_posix(), str(destination))
    except FileNotFoundError:
        raise UserError(
            f"{revision}: its {path} is in neither DVC's cache nor a remote; check {revision} out (`dvc exp apply` an "
            "experiment) and run `dvc repro`, which makes it again"
        ) from None
