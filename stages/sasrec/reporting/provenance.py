"""Asks git and DVC where the outputs of the pipeline come from."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from sasrec.core import params
from sasrec.core.errors import UserError
from sasrec.reporting import overrides


def output_of(*command: str) -> str:
    """Return the output of `command`; if it fails, raise a UserError with its last line."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        words = command[2:] if command[0] == sys.executable else command
        raise UserError(f"`{' '.join(words[:2])}` failed: {last}; mend that and run it again")
    return done.stdout


def of_dvc(*arguments: str) -> dict[str, Any]:
    """Return the JSON object that a DVC command prints."""
    return json.loads(output_of(sys.executable, "-m", "dvc", *arguments, "--json"))


def origin(code: Sequence[str], current_params: dict[str, Any]) -> dict[str, Any]:
    """Return the revision, the paths of `code` and the params that differ from it, and the stages out of date."""
    changed = output_of("git", "status", "--porcelain", *code).splitlines()
    committed = output_of("git", "show", "HEAD:./params.yaml").encode()
    differing = changed_params(params.parse(committed, "params.yaml of HEAD"), current_params)
    return {
        "revision": output_of("git", "rev-parse", "HEAD").strip(),
        "changed_code": [line[3:] for line in changed],
        "changed_params": differing,
        "overrides": overrides.words({key: values["new"] for key, values in differing.items()}),
        "out_of_date": list(of_dvc("status")),
    }


def changed_params(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the old and the new value of each param that differs, by name, in the order of `new`."""
    return {
        f"{section}.{key}": {"old": old.get(section, {}).get(key), "new": value}
        for section, keys in new.items()
        for key, value in keys.items()
        if repr(old.get(section, {}).get(key, ...)) != repr(value)  # 1, 1.0 and true are equal, but not the same
    }
