"""Finds the runs that a user names, and their outputs: the workspace, another clone, a git revision, an experiment."""

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides

from sasrec.core import errors, params
from sasrec.core.errors import UserError

WORKSPACE = "workspace"  # DVC's own word

PATTERN = re.compile(r"[*?\[]")


def named(argument: str) -> list[str]:
    """Return the runs that `argument` names: one, several with commas between, or the experiments of a pattern.

    Raises:
        UserError: a run is named twice, or no experiment fits the pattern.

    """
    if Path(argument, "dvc.yaml").is_file():
        return [argument]
    found = [run for part in argument.split(",") for run in (_fitting(part) if PATTERN.search(part) else [part])]
    if twice := next((run for run in found if found.count(run) > 1), None):
        raise UserError(f"{argument} names {twice} twice, which would pass for two seeds; name each run once")
    return found


def make_experiment(name: str, changes: Sequence[str], params_path: Path) -> None:
    """Run the experiment `name`, with these changes of params.yaml, outside the workspace, unless HEAD has it.

    Raises:
        UserError: HEAD has it with other params, or the run fails.

    """
    if name in experiments():
        _require_params(name, changes, params_path)
        return
    words = ["dvc", "exp", "run", "--temp", "--name", name, *(word for each in changes for word in ("-S", each))]
    print(shlex.join(words), file=sys.stderr)
    if subprocess.run(words, stdout=sys.stderr, check=False).returncode:
        raise UserError(f"`{shlex.join(words)}` failed, see above; mend it, and run this again")


def experiments() -> list[str]:
    """Return the names of the experiments on HEAD."""
    listed = subprocess.run(["dvc", "exp", "list", "--name-only"], stdout=subprocess.PIPE, text=True, check=False)
    if listed.returncode:
        raise UserError("`dvc exp list` failed, see above")
    return listed.stdout.split()


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


def _fitting(pattern: str) -> list[str]:
    """Return the experiments on HEAD that fit the pattern, number by number; raise UserError if there are none."""
    names = experiments()
    if found := fnmatch.filter(names, pattern):
        return sorted(found, key=lambda name: (len(name), name))
    raise UserError(f"no experiment on HEAD fits {pattern}; they are {', '.join(sorted(names)) or 'none'}")


def _require_params(name: str, changes: Sequence[str], path: Path) -> None:
    """Raise UserError unless the experiment `name` has the params of the file at `path`, with these changes."""
    with TemporaryDirectory() as folder:
        expected = shutil.copy(path, folder)
        apply_overrides(expected, list(changes))
        wanted = params.read(Path(expected))
    has = params.parse(DVCFileSystem(rev=name).read_bytes(path.as_posix()), f"{path} of {name}")
    for section, values in wanted.items():
        for key, value in values.items():
            if has[section].get(key) != value:
                raise UserError(
                    f"the experiment {name} has {section}.{key} {params.shown(has[section].get(key))}, not "
                    f"{params.shown(value)}; take another name, or remove it: `dvc exp remove {name}`"
                )


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
