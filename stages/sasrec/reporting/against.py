"""Compares the run of a report with an earlier one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sasrec.core import params
from sasrec.evaluation import rank_table
from sasrec.evaluation.rank_table import RankTable
from sasrec.reporting import comparison, comparison_table, figures, provenance, runs
from sasrec.reporting.comparison import Difference

THIS_RUN = "this run"


class Against(NamedTuple):
    """What the report says of two runs."""

    run: str  # the other one
    verdict: str
    is_paired: bool
    rows: list[Difference]  # over all users
    changed_params: dict[str, dict[str, Any]]


def compare(run: str, ranks: RankTable, cutoffs: Sequence[int], ranks_path: Path, params_path: Path) -> Against:
    """Return how `ranks` and the params of the workspace differ from those of `run`, as `runs.output` finds it.

    Raises:
        UserError: there is no such run, its outputs are nowhere, or its metrics are not comparable.

    """
    with runs.output(ranks_path, run) as path:
        earlier = rank_table.read(path)
    with runs.output(params_path, run) as path:
        changed = provenance.changed_params(params.read(path), params.read(params_path))
    found = comparison.compare(earlier, ranks, (run, THIS_RUN), figures.RANKERS, cutoffs)
    rows = [row for row in found.differences if row.by == "all"]
    return Against(run, comparison_table.verdict(found), found.is_paired, rows, changed)
