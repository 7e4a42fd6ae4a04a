"""Formats metrics/eval.json as a table; `dvc metrics show` prints its thirty values in one row."""

from collections.abc import Mapping
from typing import NamedTuple

from sasrec.core import visible
from sasrec.evaluation.metrics import HALF_WIDTH

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""The mean and the 95 % half-width of each metric, by scorer and by list (sampled or full)."""


class Table(NamedTuple):
    """The cells of a table, as text."""

    columns: list[str]  # such as "sampled HR@10"
    rows: dict[str, list[str]]  # by scorer: the cells of its row


def names(metrics: Metrics) -> list[str]:
    """Return the names of the metrics at the first cutoff, such as HR@10."""
    found = [name for name in next(iter(metrics.values()))["sampled"] if "@" in name and not name.endswith(HALF_WIDTH)]
    return [name for name in found if name.endswith(f"@{found[0].partition('@')[2]}")]


def table(metrics: Metrics, decimals: int) -> Table:
    """Return each metric ± its half-width, for each scorer and both lists."""
    columns = [(ranked, name) for ranked in ("sampled", "full") for name in names(metrics)]
    rows = {
        scorer: [
            f"{by_list[ranked][name]:.{decimals}f} ± {by_list[ranked][name + HALF_WIDTH]:.{decimals}f}"
            for ranked, name in columns
        ]
        for scorer, by_list in metrics.items()
    }
    return Table([f"{ranked} {name}" for ranked, name in columns], rows)


def as_text(metrics: Metrics) -> str:
    """Return the table for a terminal."""
    columns, rows = table(metrics, decimals=4)
    lines = [" " * 18 + "".join(f"{visible.text(column):>20}" for column in columns)]
    lines += [
        f"{visible.text(scorer):<18}" + "".join(f"{cell:>20}" for cell in cells) for scorer, cells in rows.items()
    ]
    return "\n".join(lines)


def as_markdown(metrics: Metrics, labels: Mapping[str, str]) -> str:
    """Return the table in Markdown; `labels` rename scorers."""
    columns, rows = table(metrics, decimals=3)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {label(scorer, labels)} | {' | '.join(cells)} |" for scorer, cells in rows.items()]
    return "\n".join(lines)


def label(scorer: str, labels: Mapping[str, str]) -> str:
    """Return the label of a scorer, else its name with spaces."""
    return labels.get(scorer, scorer.replace("_", " "))
