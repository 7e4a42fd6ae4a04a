"""Keeps what the run of a stage took: seconds, memory, the machine and the versions.

No output may depend on these, so a record is an untracked file. Its name is a digest of the params and the outputs of
the stage, as dvc.lock has them. After a checkout, a record is therefore found only for the run that is checked out.
"""

import contextlib
import hashlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from sasrec.core import cli, params
from sasrec.core.errors import UserError

STARTED = time.monotonic()  # a stage imports this module before any slow one
FOLDER = ".runs"
LIBRARIES = ("torch", "numpy", "safetensors", "pyarrow", "duckdb", "ibis-framework", "dvc")


class Record(msgspec.Struct, frozen=True):
    """What the run of a stage took, and where it ran."""

    finished: str  # ISO 8601, UTC
    seconds: float  # from the start of the script to its outputs
    peak_bytes: int  # of the largest process
    python: str
    machine: str
    processor: str
    cores: int | None
    libraries: dict[str, str]
    device: dict[str, Any] = {}  # of a stage that computes with PyTorch


def recorded(script: str, main: Callable[[], Mapping[str, object] | None]) -> Callable[[], None]:
    """Return a function that calls `main`, which may return the device, and keeps the record of the stage `script`."""

    def run() -> None:
        device = main()
        if os.environ.get("RANK", "0") == "0":  # of several processes, the main one writes
            with contextlib.suppress(OSError, UserError):  # the outputs are complete without a record
                _write(Path(script).stem, dict(device or {}))

    return run


def find(root: Path, name: str, values: Mapping[str, Any], outputs: Mapping[str, str]) -> Record | None:
    """Return the record of the stage `name` kept in `root`; None if it did not run here with this result.

    `values` are its params by name, and `outputs` the digests of its outputs by path, both as in dvc.lock.
    """
    try:
        return msgspec.json.decode(_path(root, name, values, outputs).read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write(name: str, device: dict[str, Any]) -> None:
    """Write the record of the stage `name`, which ran in the working directory."""
    seconds = round(time.monotonic() - STARTED, 2)
    stage = cli.stage(Path.cwd(), name)
    document = params.read(Path("params.yaml"))
    values = {param: _value(document, param) for param in stage["params"]}
    outputs = {path: md5(Path(path)) for path in cli.outputs(stage)}
    record = Record(
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=seconds,
        peak_bytes=_peak_bytes(),
        python=platform.python_version(),
        machine=platform.machine(),
        processor=processor(),
        cores=os.cpu_count(),
        libraries={library: version(library) for library in LIBRARIES},
        device=device,
    )
    root = Path(os.environ.get("DVC_ROOT", "."))  # of an experiment in a temporary folder, DVC names the lasting one
    path = _path(root, name, values, outputs)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    partial.replace(path)


def _path(root: Path, name: str, values: Mapping[str, Any], outputs: Mapping[str, str]) -> Path:
    content = json.dumps([values, outputs], sort_keys=True)
    return root / FOLDER / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"


def _value(document: Mapping[str, Any], param: str) -> object:
    section, _, key = param.partition(".")
    return document[section][key] if key else document[section]


def md5(path: Path) -> str:
    """Return the digest that dvc.lock has of a file or a folder."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
    entries = [{"md5": md5(files[name]), "relpath": name} for name in sorted(files)]
    return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + ".dir"


def processor() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())


def _peak_bytes() -> int:
    """Return the peak memory of this process or of the largest one that it started and waited for."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    try:  # ru_maxrss of this process begins at the memory of DVC, which started it
        status = Path("/proc/self/status").read_text()
        own = 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):  # not Linux
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(own, children)
