"""What the report calls the params of a run."""

import copy
from pathlib import Path

import pytest
from conftest import ROOT

from sasrec.core import params
from sasrec.reporting import provenance

MAKEFILE = (ROOT / "Makefile").read_text()
COMMITTED = params.read(Path(ROOT / "params.yaml"))
BEST = {
    "sasrec": {"max_len": 100, "hidden_units": 64, "num_heads": 2, "dropout_rate": 0.4},
    "train": {"num_negatives": 4096, "window": "random", "warmup_steps": 100, "lr": 0.002, "num_epochs": 50},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "default"),
        ({"fetch": {"source": "file", "file": "a.gz"}, "dump_format": {"preset": None}}, "default"),
        (BEST, "best"),
        ({"train": {"lr": 0.5}}, None),
        ({**BEST, "split": {"seed": 1}}, None),
    ],
)
def test_a_preset_is_named_where_all_params_but_those_of_the_data_are_its_own(
    changes: dict[str, dict[str, object]], expected: str | None
) -> None:
    current = copy.deepcopy(COMMITTED)
    for section, values in changes.items():
        current[section].update(values)
    assert provenance.preset(MAKEFILE, COMMITTED, current) == expected


def test_params_that_were_committed_as_a_preset_keep_its_name() -> None:
    best = copy.deepcopy(COMMITTED)
    for section, values in BEST.items():
        best[section].update(values)
    assert provenance.preset(MAKEFILE, best, best) == "best"
