"""Finds the records of the run that dvc.lock describes: what each stage took, and where."""

from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from sasrec.core import run_record
from sasrec.core.run_record import Record

Records = dict[str, Record | None]
"""The record of each stage in the order of the pipeline; None if it did not run on this machine with this result."""


def read(pipeline: Path, lock: Path) -> Records:
    """Return the records kept beside `lock` of the stages that dvc.yaml, at `pipeline`, names."""
    names = yaml.safe_load(pipeline.read_bytes())["stages"]
    locked = YAML(typ="safe").load(lock)["stages"] if lock.is_file() else {}  # ruamel reads numbers as DVC does
    return {name: _find(lock.parent, name, locked[name]) if name in locked else None for name in names}


def _find(root: Path, name: str, entry: dict[str, Any]) -> Record | None:
    (values,) = entry["params"].values()
    outputs = {output["path"]: output["md5"] for output in entry["outs"]}
    return run_record.find(root, name, values, outputs)


def device(record: Record) -> str:
    """Return what computed, in a few words."""
    return f"{record.device['device']}, {record.device['threads']} threads" if record.device else "cpu"


def environments(records: Records) -> list[tuple[list[str], Record]]:
    """Return each machine and set of versions, as a record that has them, after the stages that ran there."""
    found: dict[str, tuple[list[str], Record]] = {}
    for name, record in records.items():
        if record:
            key = repr((record.python, record.machine, record.processor, record.cores, record.libraries))
            found.setdefault(key, ([], record))[0].append(name)
    return list(found.values())


def as_text(records: Records) -> str:
    """Return a line for each stage, for a terminal."""
    lines = [f"{'stage':<18}{'seconds':>10}{'peak memory':>14}  device"]
    for name, record in records.items():
        if record:
            taken = f"{record.seconds:>10.1f}{record.peak_bytes / 1e6:>11,.0f} MB  {device(record)}"
        lines.append(f"{name:<18}{taken if record else '  not recorded on this machine'}")
    return "\n".join(lines)
