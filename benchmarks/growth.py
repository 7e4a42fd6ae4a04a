"""Measures how the data stages grow with the dump: seconds and peak memory at 1, 3 and 10 times Goodreads' size.

Each stage runs in a process of its own, after the one before it. Needs 20 GB of disk at 10 times.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import bench

RESULT = bench.HERE / "results" / "growth.json"
STAGES = ("parse_gzip", "filter_reindex", "split")
HEADER = ["stage", "reviews", "seconds", "microseconds a review", "against the smallest", "peak memory"]


def measure_scale(scale: float, runs: int) -> list[dict[str, Any]]:
    """Return a row for each stage: reviews, and the median seconds and the highest peak of its runs."""
    folder = bench.prepare(scale)  # runs each stage once: what it reads is there and in the page cache
    num_reviews = pq.read_metadata(folder / "data/interim/reviews.parquet").num_rows
    rows = []
    for stage in STAGES:
        print(f"scale {scale:g}: {stage}", file=sys.stderr)
        measured = [bench.measure(stage, folder, portable=False) for _ in range(runs)]
        seconds = statistics.median(each["seconds"] for each in measured)
        peak_mb = max(each["peak_mb"] for each in measured)
        rows.append({"scale": scale, "stage": stage, "reviews": num_reviews, "seconds": seconds, "peak_mb": peak_mb})
    return rows


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """Return the table: by stage, then by size."""
    lines = [HEADER, ["---"] * len(HEADER)]
    for stage in STAGES:
        of_stage = sorted((row for row in rows if row["stage"] == stage), key=lambda row: row["reviews"])
        each = [row["seconds"] / row["reviews"] for row in of_stage]
        lines += [
            [
                stage,
                f"{row['reviews']:,}",
                f"{row['seconds']:.2f}",
                f"{1e6 * a_review:.2f}",
                f"{a_review / each[0]:.2f}",
                f"{row['peak_mb']:.0f} MB",
            ]
            for row, a_review in zip(of_stage, each, strict=True)
        ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def main() -> None:
    """Measure the sizes asked for; write them as JSON, print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 3.0, 10.0], help="1 is Goodreads' size")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    rows = [row for scale in arguments.scales for row in measure_scale(scale, arguments.runs)]
    content = {"runs": arguments.runs, "environment": bench.environment(), "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")
    print(as_markdown(rows))


if __name__ == "__main__":
    main()
