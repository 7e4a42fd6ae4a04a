"""Formats the metrics with their intervals as a table; `dvc metrics show` prints each file's values in one row."""

from collections.abc import Mapping
from typing import NamedTuple

from sasrec.core import visible
from sasrec.evaluation.intervals import Estimate

Metrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""The mean of each metric, by ranker and by list (sampled or full): what the file of metrics holds."""

Intervals = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""The ends of each metric's interval, low and high: what the file of intervals holds."""

Estimates = Mapping[str, Mapping[str, Mapping[str, Estimate]]]
"""Both."""


class Table(NamedTuple):
    """The cells of a table, as text."""

    columns: list[str]  # such as "sampled HR@10"
    rows: dict[str, list[str]]  # by ranker: the cells of its row


def to_files(estimates: Estimates) -> tuple[Metrics, Intervals]:
    """Return the content of the two files; they are two because DVC shows every value of a file of metrics."""
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    intervals: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for ranker, by_list in estimates.items():
        metrics[ranker] = {ranked: {name: each.mean for name, each in of.items()} for ranked, of in by_list.items()}
        intervals[ranker] = {
            ranked: {name: {"low": each.low, "high": each.high} for name, each in of.items()}
            for ranked, of in by_list.items()
        }
    return metrics, intervals


def from_files(metrics: Metrics, intervals: Intervals) -> Estimates:
    """Return the estimates from the content of the two files."""
    return {
        ranker: {
            ranked: {name: Estimate(mean, **intervals[ranker][ranked][name]) for name, mean in of.items()}
            for ranked, of in by_list.items()
        }
        for ranker, by_list in metrics.items()
    }


def names(estimates: Estimates) -> list[str]:
    """Return the names of the metrics at the first cutoff, such as HR@10."""
    found = [name for name in next(iter(estimates.values()))["sampled"] if "@" in name]
    return [name for name in found if name.endswith(f"@{found[0].partition('@')[2]}")]


def table(estimates: Estimates) -> Table:
    """Return each metric ± half of its interval's width, for each ranker and both lists."""
    columns = [(ranked, name) for ranked in ("sampled", "full") for name in names(estimates)]
    rows = {ranker: [_cell(by_list[ranked][name]) for ranked, name in columns] for ranker, by_list in estimates.items()}
    return Table([f"{ranked} {name}" for ranked, name in columns], rows)


def as_text(estimates: Estimates) -> str:
    """Return the table for a terminal of 80 columns."""
    columns, rows = table(estimates)
    lists, metrics = zip(*(visible.text(column).split(" ", 1) for column in columns), strict=True)
    heads = [ranked if number == lists.index(ranked) else "" for number, ranked in enumerate(lists)]
    lines = [("", heads), ("", metrics), *((visible.text(ranker), cells) for ranker, cells in rows.items())]
    return "\n".join((f"{first:<17}" + "".join(f"{cell:>15}" for cell in cells)).rstrip() for first, cells in lines)


def as_markdown(estimates: Estimates, labels: Mapping[str, str]) -> str:
    """Return the table in Markdown; `labels` rename rankers."""
    columns, rows = table(estimates)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {label(ranker, labels)} | {' | '.join(cells)} |" for ranker, cells in rows.items()]
    return "\n".join(lines)


def label(ranker: str, labels: Mapping[str, str]) -> str:
    """Return the label of a ranker, else its name with spaces."""
    return labels.get(ranker, ranker.replace("_", " "))


def _cell(each: Estimate) -> str:
    return f"{each.mean:.3f} ± {(each.high - each.low) / 2:.3f}"
