"""Builds a stage's `--help` from its entry in dvc.yaml, so that the two cannot differ."""

import argparse
import sys
from pathlib import Path
from typing import Any

from sasrec.core import errors, params


def answer(script: str) -> None:
    """Exit with usage or an error if the stage `script` got an argument: a stage takes none but `--help`."""
    if len(sys.argv) > 1:
        errors.run(lambda: _parse_none(script))


def _parse_none(script: str) -> None:
    root, name = Path(script).resolve().parent.parent, Path(script).stem
    values, found = params.read(root / "params.yaml"), stage(root, name)
    try:
        texts = {"prog": found["cmd"], "description": found["desc"], "epilog": describe(found, values)}
    except (LookupError, TypeError, AttributeError):
        raise _invalid(root, name) from None
    argparse.ArgumentParser(**texts, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def stage(root: Path, name: str) -> dict[str, Any]:
    """Return the stage `name` of dvc.yaml in `root`; raise UserError if there is none."""
    import yaml  # takes longer than the start of a stage should

    try:
        return yaml.safe_load((root / "dvc.yaml").read_bytes())["stages"][name]
    except (yaml.YAMLError, LookupError, TypeError):
        raise _invalid(root, name) from None


def outputs(stage: dict[str, Any]) -> list[str]:
    """Return the paths of all that a `stage` of dvc.yaml writes."""
    entries = [*stage.get("outs", []), *stage.get("metrics", [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def describe(stage: dict[str, Any], values: dict[str, Any]) -> str:
    """Return lines of what a `stage` of dvc.yaml reads and writes, and of its params with their `values`."""
    read = [path for path in stage["deps"] if not path.startswith("stages/")]
    keys = [key for param in stage["params"] for key in _keys(param, values)]
    sections = {
        "reads": read or ["nothing that another stage wrote"],
        "writes": outputs(stage),
        "params (params.yaml)": [f"{section}.{key}: {_value(values, section, key)}" for section, key in keys],
    }
    return "\n".join(f"{title}:\n" + "\n".join(f"  {line}" for line in lines) for title, lines in sections.items())


def _invalid(root: Path, name: str) -> errors.UserError:
    return errors.UserError(f"{root / 'dvc.yaml'}: has no valid stage {name}; restore it with git")


def _value(values: dict[str, Any], section: str, key: str) -> str:
    return params.shown(values[section][key]) if key in values.get(section, {}) else "missing"


def _keys(param: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (section, key) of `param`, or of every key if `param` is a section."""
    section, _, key = param.partition(".")
    return [(section, key)] if key else [(section, key) for key in values.get(section, {})]
