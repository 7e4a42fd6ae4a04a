"""Clones HEAD, runs the pipeline twice from empty caches, and compares both locks and the committed one.

On an x86-64 CPU all stages must agree to the bit. On another processor, or if training uses a GPU, the data stages must
agree to the bit and the metrics within TOLERANCE. With train.reproducibility fast, the two runs must be the same, but
the committed lock is compared in the weaker way. The first line of the output names the check.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

import pyarrow.parquet as pq
import yaml
from ruamel.yaml import YAML
from safetensors.numpy import load_file

from sasrec.core import visible

TOLERANCE = 0.05  # about three standard errors of a mean over 1,000 users
DATA_STAGES = ["fetch", "parse_gzip", "filter_reindex", "split"]
Lock = dict[str, Any]


Find = Callable[[str], Path | None]
"""Takes an output's path in the pipeline; returns the file with its content, or None."""


class DifferenceError(Exception):
    """Two runs disagree; the message names the first stage, its files and the difference."""


def run(*command: str, folder: Path) -> str:
    """Return the output of `command`; if it fails, exit with its error."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", env={**os.environ, "PATH": path}
    )
    if done.returncode:
        end_with(command, folder, done)
    return done.stdout


def end_with(command: Sequence[str], folder: Path, done: subprocess.CompletedProcess[str]) -> NoReturn:
    """Exit with the error: one line if git finds no repository, or another user's; else the whole output."""
    remedies = [line.strip() for line in done.stderr.splitlines() if "--add safe.directory" in line]
    if remedies:
        sys.exit(f"error: the repository of {folder} belongs to another user; if you trust it: `{remedies[0]}`")
    if command[:2] == ("git", "rev-parse"):
        sys.exit(f"error: {folder} is in no git repository; name a folder that is, with a dvc.yaml")
    sys.exit(f"error: {' '.join(command)} failed in {folder}:\n{done.stdout}{done.stderr}")


def clone(source: Path, folder: Path) -> Path:
    """Clone the HEAD of the repository of `source` to `folder`; return the folder of `source` in the clone."""
    output = run("git", "rev-parse", "--show-toplevel", "--show-prefix", folder=source)
    top, inside = output.splitlines()
    run("git", "clone", "--quiet", top, str(folder), folder=source)
    return folder / inside


def run_from_scratch(folder: Path) -> Lock:
    """Run the pipeline in the clone `folder` from an empty cache, and return its lock."""
    run("dvc", "repro", "--force", "--no-run-cache", folder=folder)
    status = json.loads(run("dvc", "status", "--json", folder=folder))
    if status != {}:
        raise DifferenceError(f"`dvc status` is not clean after the run: {json.dumps(status)}")
    return read_lock(folder)


def read_lock(folder: Path) -> Lock:
    """Return the stages of the folder's dvc.lock."""
    return yaml.safe_load((folder / "dvc.lock").read_bytes())["stages"]


def digests(lock: Lock, stage: str) -> dict[str, str]:
    """Return the digest of every output of `stage`, by path."""
    return {out["path"]: out["md5"] for out in lock[stage]["outs"]}


def compare(mine: Lock, other: Lock, stages: list[str], find_mine: Find, find_other: Find) -> None:
    """Raise DifferenceError for the first of `stages` whose outputs differ between two locks."""
    for stage in stages:
        first, second = digests(mine, stage), digests(other, stage)
        paths = [path for path in first | second if first.get(path) != second.get(path)]
        if paths:
            how = [f"{path} differs{describe(path, find_mine(path), find_other(path))}" for path in paths]
            raise DifferenceError(f"stage {stage}: {'; '.join(how)}")


def compare_causes(mine: Lock, committed: Lock) -> None:
    """Raise DifferenceError if the committed lock records other code or params than the run."""
    for stage in mine:
        recorded, found = causes(committed[stage]), causes(mine[stage])
        for cause in sorted(recorded | found):
            if recorded.get(cause) != found.get(cause):
                raise DifferenceError(
                    f"stage {stage}: dvc.lock was made with another {cause}; `dvc repro` and commit it"
                )


def causes(stage: dict[str, Any]) -> dict[str, Any]:
    """Return the digest of each code file and the value of each param that a lock records for a stage."""
    code = {dep["path"]: dep["md5"] for dep in stage["deps"] if dep["path"].startswith("stages/")}
    return code | dict(_flat(stage["params"]["params.yaml"]))


def _flat(params: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each `section.key` and its value; a lock records both sections and single keys."""
    for name, value in params.items():
        yield from (
            ((f"{name}.{key}", each) for key, each in value.items()) if isinstance(value, dict) else [(name, value)]
        )


def in_folder(folder: Path) -> Find:
    """Return a function that finds an output of the run in `folder`."""
    return lambda path: folder / path if (folder / path).is_file() else None


def as_committed(clone: Path, source: Path) -> Find:
    """Return a function that finds a committed output: in git, or in the cache of `source` if it is still there."""
    lock = read_lock(clone)
    md5s = {path: md5 for stage in lock for path, md5 in digests(lock, stage).items()}

    def find(path: str) -> Path | None:
        cached = source / ".dvc/cache/files/md5" / md5s[path][:2] / md5s[path][2:]
        return next((file for file in (clone / path, cached) if file.is_file()), None)

    return find


def describe(path: str, first: Path | None, second: Path | None) -> str:
    """Return how two versions of the output `path` differ: rows, tensors or values."""
    if first is None or second is None:
        return " in its digest (the committed content is not at hand: run `dvc pull` or `dvc repro` first to see how)"
    if path.endswith(".parquet"):
        return _describe_rows(first, second)
    if path.endswith(".safetensors"):
        return _describe_tensors(first, second)
    if path.endswith((".json", ".csv", ".tsv", ".md")):
        return _describe_lines(first, second)
    return f": {first.stat().st_size} against {second.stat().st_size} bytes"


def _describe_lines(first: Path, second: Path) -> str:
    lines = enumerate(zip_longest(*map(_lines, (first, second))), start=1)
    number, (mine, other) = next((number, pair) for number, pair in lines if pair[0] != pair[1])
    return f" at line {number}: {mine} against {other}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _describe_rows(first: Path, second: Path) -> str:
    tables = pq.read_table(first), pq.read_table(second)
    if len(tables[0]) != len(tables[1]):
        return f": {len(tables[0])} against {len(tables[1])} rows"
    rows = zip(tables[0].to_pylist(), tables[1].to_pylist(), strict=True)
    differing = [(number, a, b) for number, (a, b) in enumerate(rows) if a != b]
    if not differing:
        return ": the rows are equal, so the versions of the writers are not"
    number, a, b = differing[0]
    return f" in {len(differing)} of {len(tables[0])} rows, first in row {number}: {a} against {b}"


def _describe_tensors(first: Path, second: Path) -> str:
    mine, other = load_file(first), load_file(second)
    for name in sorted(mine.keys() | other.keys()):
        if name not in mine or name not in other or mine[name].shape != other[name].shape:
            shapes = [str(t[name].shape) if name in t else "absent" for t in (mine, other)]
            return f" in tensor {name}: shape {shapes[0]} against {shapes[1]}"
        unequal = mine[name] != other[name]
        if unequal.any():
            largest = abs(mine[name].astype(float) - other[name].astype(float)).max()
            return f" in {unequal.sum()} of {unequal.size} values of tensor {name}, by up to {largest:.3g}"
    return ": the tensors are equal, so the headers are not"


def compare_metrics(mine: dict[str, Any], other: dict[str, Any]) -> None:
    """Raise DifferenceError if a metric of the two runs differs by more than TOLERANCE."""
    for scorer, by_list in other.items():
        for ranked, values in by_list.items():
            for name, value in values.items():
                found = mine[scorer][ranked][name]
                if abs(found - value) > TOLERANCE:
                    key = f"metrics/eval.json: {scorer}.{ranked}.{name}"
                    raise DifferenceError(f"{key}: {found} against {value}, more than {TOLERANCE} apart")


def why_inexact(train: dict[str, Any]) -> str:
    """Return why training with the params `train` may give other bits here; empty if it may not."""
    import torch

    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"this processor is {platform.machine()}"
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return "training takes the GPU" if has_gpu and train["device"] != "cpu" else ""


def verify(source: Path, scratch: Path) -> None:
    """Raise DifferenceError unless two runs of the HEAD of `source` agree with each other and with its lock."""
    committed_folder = clone(source, scratch / "committed")
    committed = read_lock(committed_folder)
    train = YAML(typ="safe").load(committed_folder / "params.yaml")["train"]
    here = why_inexact(train)
    is_fast = train["reproducibility"] == "fast"
    reason = here or ("train.reproducibility is fast, which may differ elsewhere" if is_fast else "")
    relaxed = f"{reason}: against the committed lock, data stages must agree to the bit, metrics within {TOLERANCE}"
    print(relaxed if reason else "every stage must agree to the bit", flush=True)

    stages = list(committed)
    folders = clone(source, scratch / "first"), clone(source, scratch / "second")
    first, second = (run_from_scratch(folder) for folder in folders)
    find_first, find_second = (in_folder(folder) for folder in folders)
    find_committed = as_committed(committed_folder, source)
    compare(first, second, DATA_STAGES if here else stages, find_first, find_second)
    print("two runs from empty caches: the same", flush=True)
    compare(first, committed, DATA_STAGES if reason else stages, find_first, find_committed)
    compare_causes(first, committed)
    if reason:
        read = [json.loads((folder / "metrics/eval.json").read_bytes()) for folder in (folders[0], committed_folder)]
        compare_metrics(*read)
    print("the committed dvc.lock: the same", flush=True)


def main() -> None:
    """Verify the repository named, else this script's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, default=Path(__file__).parent.parent, help="a git repository")
    source = parser.parse_args().source.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            verify(source, Path(scratch))
        except DifferenceError as difference:
            sys.exit(f"error: {visible.text(difference)}")


if __name__ == "__main__":
    main()
