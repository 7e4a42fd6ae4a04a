"""Asks git and DVC where the outputs of the pipeline come from."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import yaml

from sasrec.core import params
from sasrec.core.errors import UserError
from sasrec.reporting import overrides

OF_THE_DATA = ("fetch", "parse_gzip", "dump_format", "spark", "storage")  # sections that no preset sets
PRESET = re.compile(r"^([\w-]+):.*\n\tdvc exp run \$\(SOURCE\)(.*)$", re.MULTILINE)


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
    """Return the revision, the preset, the paths of `code` and the params that differ, and the stages out of date."""
    changed = output_of("git", "status", "--porcelain", *code).splitlines()
    committed = params.parse(output_of("git", "show", "HEAD:./params.yaml").encode(), "params.yaml of HEAD")
    differing = changed_params(committed, current_params)
    return {
        "preset": preset(output_of("git", "show", "HEAD:./Makefile"), committed, current_params),
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


def preset(makefile: str, committed: dict[str, Any], current: dict[str, Any]) -> str | None:
    """Return the target of `makefile` whose params are the `current` ones, whatever the data; None if there is none."""
    found = None
    for name, words in PRESET.findall(makefile):
        expected = {section: dict(keys) for section, keys in committed.items()}
        for word in shlex.split(words.replace("-S ", "")):
            key, _, value = word.partition("=")
            section, _, name_in_section = key.partition(".")
            expected.setdefault(section, {})[name_in_section] = yaml.safe_load(value)
        differing = changed_params(expected, current)
        if all(key.partition(".")[0] in OF_THE_DATA for key in differing) and found in (None, "default"):
            found = name  # another name says more than `default`, which takes params.yaml as it is
    return found
