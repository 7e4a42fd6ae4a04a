"""Describes the data of a run: name, files, time and licence."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sasrec.reporting.model_card import Source

EPOCH = date(1970, 1, 1)


def describe(source: Source, params: dict[str, Any], days: np.ndarray, lock: Path) -> dict[str, Any]:
    """Return the facts that a page names; `days` are those of the training ratings, counted from 1970-01-01."""
    given = params["fetch"]["file"] if params["fetch"]["source"] == "file" else []
    files = given if isinstance(given, list) else [given]
    first, last = (EPOCH + timedelta(days=int(day)) for day in (days.min(), days.max()))
    return {
        "name": params["card"]["data_name"] or ", ".join(Path(file).name for file in files) or source.name,
        "format": params["dump_format"]["preset"],
        "first": first.isoformat(),
        "last": last.isoformat(),
        "md5": _md5(lock),
        "licence": source.licence,
    }


def _md5(lock: Path) -> str | None:
    """Return the digest of the dump that the run read, which dvc.lock has."""
    if not lock.is_file():
        return None
    return yaml.safe_load(lock.read_bytes())["stages"]["fetch"]["outs"][0]["md5"]
