"""Answers `--help` of a stage with what dvc.yaml says of it, so that the two cannot differ."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from sasrec import errors, params


def answer(script: str) -> None:
    """Exit with the usage of the stage `script` where it is asked for, or where an argument is given: it takes none."""
    if len(sys.argv) > 1:
        errors.run(lambda: _parse_none(script))


def _parse_none(script: str) -> None:
    root = Path(script).resolve().parent.parent
    stage = YAML(typ="safe").load(root / "dvc.yaml")["stages"][Path(script).stem]
    parser = argparse.ArgumentParser(
        prog=stage["cmd"],
        description=stage["desc"],
        epilog=describe(stage, params.read(root / "params.yaml")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()


def describe(stage: dict[str, Any], values: dict[str, Any]) -> str:
    """Return, line by line, which data a stage of dvc.yaml reads, what it writes, and its params with their values."""
    written = [entry if isinstance(entry, str) else next(iter(entry)) for entry in _outputs(stage)]
    read = [path for path in stage["deps"] if not path.endswith(".py")]
    keys = [key.split(".") for key in stage["params"]]
    sections = {
        "reads": read or ["nothing that another stage wrote"],
        "writes": written,
        "params (params.yaml)": [f"{section}.{key}: {params.shown(values[section][key])}" for section, key in keys],
    }
    return "\n".join(f"{title}:\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items())


def _outputs(stage: dict[str, Any]) -> list[str | dict[str, Any]]:
    return [*stage.get("outs", []), *stage.get("metrics", [])]
