"""Measures seconds and peak memory of the data stages at 1, 3 and 10 times Goodreads' size.

Each run is a process of its own, and the sizes alternate. It needs 20 GB of disk at 10 times, and the extra `report` to
draw.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from ruamel.yaml import YAML

import bench

RESULT = bench.HERE / "results" / "growth.json"
PICTURE = bench.ROOT / "docs" / "growth.png"
HEADER = ["work", "reviews", "seconds", "microseconds a review", "of the smallest's", "peak memory"]


@dataclass(frozen=True)
class Work:
    """A stage, and DuckDB's memory limit if it matters."""

    title: str
    stage: str
    memory_limit: str | None = None


WORKS = [
    Work("parse_gzip", "parse_gzip"),
    Work("filter_reindex", "filter_reindex"),
    Work("filter_reindex, DuckDB in 150 MB", "filter_reindex", "150MB"),
    Work("split", "split"),
]


def measure(work: Work, folder: Path) -> dict[str, float]:
    """Run the stage once with its limit; return its seconds and peak memory."""
    document = YAML().load(folder / "params.yaml")
    document["filter_reindex"]["memory_limit"] = work.memory_limit
    YAML().dump(document, folder / "params.yaml")
    return bench.measure(work.stage, folder, portable=False)


def measure_all(scales: list[float], runs: int) -> list[dict[str, Any]]:
    """Return a row for each work and size: its reviews, median seconds and highest peak."""
    folders = [bench.prepare(scale) for scale in scales]  # each holds the inputs of every stage
    measured: dict[tuple[Work, Path], list[dict[str, float]]] = {}
    for number in range(runs):
        print(f"run {number + 1} of {runs}", file=sys.stderr)
        for folder in folders:
            for work in WORKS:
                measured.setdefault((work, folder), []).append(measure(work, folder))
    rows = []
    for (work, folder), each in measured.items():
        num_reviews = pq.read_metadata(folder / "data/interim/reviews.parquet").num_rows
        seconds = statistics.median(run["seconds"] for run in each)
        peak_mb = max(run["peak_mb"] for run in each)
        rows.append({**asdict(work), "reviews": num_reviews, "seconds": seconds, "peak_mb": peak_mb})
    return rows


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table in Markdown, by work, then by size."""
    lines = [HEADER, ["---"] * len(HEADER)]
    for work in WORKS:
        work_rows = sorted((row for row in rows if row["title"] == work.title), key=lambda row: row["reviews"])
        seconds_per_review = [row["seconds"] / row["reviews"] for row in work_rows]
        lines += [
            [
                work.title,
                f"{row['reviews']:,}",
                f"{row['seconds']:.2f}",
                f"{1e6 * seconds:.2f}",
                f"{seconds / seconds_per_review[0]:.2f}",
                f"{row['peak_mb']:.0f} MB",
            ]
            for row, seconds in zip(work_rows, seconds_per_review, strict=True)
        ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def draw(rows: list[dict[str, Any]]) -> bytes:
    """Return a PNG of seconds and peak memory against the number of reviews, on logarithmic axes."""
    import vl_convert

    def panel(field: str, title: str) -> dict[str, Any]:
        reviews = {"field": "reviews", "type": "quantitative", "scale": {"type": "log", "nice": False, "padding": 12}}
        sizes = sorted({row["reviews"] for row in rows})
        axis = {"values": sizes, "format": ".3s", "grid": False, "labelExpr": "replace(datum.label, 'M', ' M')"}
        values = {
            "field": field,
            "type": "quantitative",
            "title": title,
            "scale": {"type": "log", "nice": False, "padding": 12},
        }
        work = {"field": "title", "type": "nominal", "title": None, "sort": [each.title for each in WORKS]}
        return {
            "width": 340,
            "height": 260,
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {**reviews, "title": "reviews in the dump", "axis": axis},
                "y": {**values, "axis": {"tickCount": 5}},
                "color": {**work, "legend": {"orient": "bottom", "columns": 2, "labelLimit": 300}},
            },
        }

    panels = [panel("seconds", "seconds, median"), panel("peak_mb", "peak memory (MB)")]
    # Version 5 is the newest that every recent vl-convert draws.
    spec = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "data": {"values": rows}, "hconcat": panels}
    return vl_convert.vegalite_to_png(spec, scale=2)


def main() -> None:
    """Measure the requested sizes; write JSON and a picture, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 3.0, 10.0], help="1 is Goodreads' size")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    rows = measure_all(arguments.scales, arguments.runs)
    content = {"runs": arguments.runs, "environment": bench.environment(), "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")
    arguments.picture.write_bytes(draw(rows))
    print(as_markdown(rows))


if __name__ == "__main__":
    main()
