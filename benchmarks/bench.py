"""Compares each stage with the plain algorithm and the machine's limit; prints a table and writes it as JSON.

Each row measures our code, the reference and the limit in turn, each in a process of its own. Times leave out Python's
start and the imports, on both sides. A run of some rows keeps the other rows of the JSON.
"""

import argparse
import functools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dump
import measure as measurements
from sasrec.core import run_record
from sasrec.runtime import reproducibility

HERE = Path(__file__).parent
ROOT = HERE.parent
DATA = HERE / "data"
RESULT = HERE / "results" / "bench.json"
COPIES = 10  # of the dump, to show that memory does not grow with it


@dataclass(frozen=True)
class Row:
    """A row of the table; `ours`, `reference` and `limit` are names in measure.WORK."""

    title: str
    ours: str
    reference: str | None = None
    limit: str | None = None  # measures the physical limit; None: `ours` measures it itself, or there is none
    limit_is: str = ""
    target: str = ""
    portable: bool = False  # the reproducibility mode, if it matters
    grown: bool = False  # whether it runs on COPIES copies of the dump


ROWS = [
    Row("parse_gzip", "parse_gzip", "parse_plain", "decompress", "decompression", "10x; 1.4x the limit; 400 MB"),
    Row(f"parse_gzip, {COPIES} dumps in one", "parse_gzip", None, "decompress", "decompression", "400 MB", grown=True),
    Row("parse_gzip, CSV, without writing", "read_csv", None, None, "pyarrow's reading", "1.5x the limit"),
    Row("parse_gzip, Parquet, without writing", "read_parquet", None, None, "pyarrow's reading", "1.5x the limit"),
    Row(
        "parse_gzip, Parquet with whole numbers as ids, without writing",
        "read_numbers",
        limit_is="pyarrow's reading as text",
        target="1.5x the limit",
    ),
    Row("filter_reindex", "filter_reindex", "filter_plain", "filter_files", "its files", "4x; 1 GB"),
    Row("split", "split", None, "split_files", "its files", "2 s"),
    Row("training step, fast", "step", "step_plain", None, "arithmetic", "2.5x; sampling 5 %"),
    Row("training step, portable", "step", "step_plain", None, "arithmetic", "", portable=True),
    Row("the same, short histories, fast", "step_short", "step_short_plain", None, "arithmetic", "5x"),
    Row("the same, short histories, portable", "step_short", "step_short_plain", None, "arithmetic", "", portable=True),
    Row("training step, gbce, fast", "step_gbce", None, None, "a bce step"),
    Row("training step, gbce, portable", "step_gbce", None, None, "a bce step", portable=True),
    Row("training step, sampled_softmax, fast", "step_sampled_softmax", None, None, "a bce step", "1.5x bce"),
    Row(
        "training step, sampled_softmax, portable",
        "step_sampled_softmax",
        None,
        None,
        "a bce step",
        "1.5x bce",
        portable=True,
    ),
    Row("training step, softmax, fast", "step_softmax", None, None, "a bce step"),
    Row("training step, softmax, portable", "step_softmax", None, None, "a bce step", portable=True),
    Row("evaluate, sampled and full, fast", "evaluate", "evaluate_plain", None, "arithmetic", "10x the sampled part"),
    Row(
        "evaluate, sampled and full, portable",
        "evaluate",
        "evaluate_plain",
        None,
        "arithmetic",
        "10x the sampled part",
        portable=True,
    ),
    Row("dvc repro, cold, fast", "repro_fast", "pipeline_plain", None, "", "2.5x; idle 4 s"),
    Row("dvc repro, cold, portable", "repro_portable", "pipeline_plain", None, "", "2.5x; idle 4 s"),
]
ON_CUDA = [
    Row("training step, CUDA", "step_bce_cuda", "step_plain"),
    *(Row(f"training step, {loss}, CUDA", f"step_{loss}_cuda") for loss in measurements.LOSSES),
    Row("evaluate, sampled and full, CUDA", "evaluate_cuda", "evaluate_plain"),
]
"""Where there is a GPU. The reference computes on the processor, and a step's peak is the GPU's memory."""


@functools.cache
def measure_shared(work: str, folder: Path, _run_number: int) -> dict[str, float]:
    """Return one run's measurement of a reference or a limit; several rows may share it."""
    return measure(work, folder, portable=False)


def measure(work: str, folder: Path, *, portable: bool) -> dict[str, float]:
    """Run measure.py in a process of its own; return its measurements by name."""
    variables = reproducibility.ALWAYS | (reproducibility.PORTABLE if portable else {})
    command = [sys.executable, str(HERE / "measure.py"), work, str(folder)]
    path = os.pathsep.join([str(HERE), str(ROOT / "stages")])
    environment = {**os.environ, **variables, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)} failed, see above")
    return json.loads(done.stdout)


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(row: Row, folder: Path, runs: int) -> dict[str, object]:
    """Measure a row, `runs` times: ours, the reference and the limit in turn."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "reference": [], "limit": []}
    for number in range(runs):
        found["ours"].append(measure(row.ours, folder, portable=row.portable))
        if row.reference:
            found["reference"].append(measure_shared(row.reference, folder, number))
        if row.limit:
            found["limit"].append(measure_shared(row.limit, folder, number))
    ours = [each["seconds"] for each in found["ours"]]
    result: dict[str, object] = {**asdict(row), "seconds": spread(ours)}
    result["peak_mb"] = max(each.get("device_peak_mb", each["peak_mb"]) for each in found["ours"])
    if row.reference:
        reference = [each["seconds"] for each in found["reference"]]
        result["reference_seconds"] = spread(reference)
        result["reference_peak_mb"] = max(each["peak_mb"] for each in found["reference"])
        result["times_faster"] = spread([b / a for a, b in zip(ours, reference, strict=True)])
    limits = [each["seconds"] for each in found["limit"]]
    limits = limits or [each["limit_seconds"] for each in found["ours"] if "limit_seconds" in each]
    if limits:
        result["limit_seconds"] = spread(limits)
        result["times_the_limit"] = spread([a / b for a, b in zip(ours, limits, strict=True)])
    for key in ("sampling_share", "first_seconds", "idle_seconds", "dvc_start_seconds"):
        if key in found["ours"][0]:
            result[key] = spread([each[key] for each in found["ours"]])
    return result


def prepare(scale: float) -> Path:
    """Return a folder with the dump of `scale` and the outputs of the data stages."""
    folder = DATA / f"scale-{scale}"
    raw = folder / "data/raw/reviews.json.gz"
    if not raw.is_file():
        print(f"writing {raw.relative_to(ROOT)}", file=sys.stderr)
        dump.write(raw, scale)
    shutil.copy(ROOT / "params.yaml", folder)
    for stage in ("parse_gzip", "filter_reindex", "split"):
        measure(stage, folder, portable=False)
    return folder


def grow(folder: Path) -> Path:
    """Return a folder with COPIES of the dump in one file, because a gzip file may hold several members."""
    grown = folder.with_name(folder.name + f"-times-{COPIES}")
    raw = grown / "data/raw/reviews.json.gz"
    if not raw.is_file():
        raw.parent.mkdir(parents=True, exist_ok=True)
        with raw.open("wb") as file:
            for _ in range(COPIES):
                with (folder / "data/raw/reviews.json.gz").open("rb") as original:
                    shutil.copyfileobj(original, file)
    shutil.copy(ROOT / "params.yaml", grown)
    return grown


def shown(spread: dict[str, float], unit: str) -> str:
    """Return a spread as text: the median (minimum-maximum)."""
    factor = 1e3 if unit == "ms" else 1
    # Three significant digits, and never an exponent.
    median, least, most = (f"{float(f'{spread[name] * factor:.3g}'):.10g}" for name in ("median", "min", "max"))
    return f"{median} {unit} ({least}-{most})"


def line(result: dict[str, Any]) -> list[str]:
    """Return the cells of a result's row."""
    unit = "ms" if "step" in result["ours"] else "s"
    reference, times, limit = (result.get(key) for key in ("reference_seconds", "times_faster", "times_the_limit"))
    notes = []
    if sampling := result.get("sampling_share"):
        notes.append(f"sampling {sampling['median']:.1%}")
    if first := result.get("first_seconds"):
        notes.append(f"the first in a process {shown(first, unit)}")
    if idle := result.get("idle_seconds"):
        notes.append(f"idle {shown(idle, 's')}, DVC's start {result['dvc_start_seconds']['median']:.2f} s")
    return [
        result["title"],
        shown(result["seconds"], unit),
        f"{result['peak_mb']:.0f} MB",
        shown(reference, unit) if reference else "",
        f"{times['median']:.1f}x" if times else "",
        f"{limit['median']:.2f}x {result['limit_is']}" if limit else "",
        result["target"],
        "; ".join(notes),
    ]


HEADER = ["work", "ours", "peak", "reference", "faster", "of its limit", "target", ""]


def as_markdown(results: list[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    rows = [HEADER, ["---"] * len(HEADER), *map(line, results)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def with_earlier(results: list[dict[str, Any]], path: Path, scale: float) -> list[dict[str, Any]]:
    """Return `results` and, if the scale is the same, the other rows of the JSON at `path`, in the table's order."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    earlier = content["rows"] if content.get("scale") == scale else []
    by_title = {row["title"]: row for row in [*earlier, *results]}
    titles = [row.title for row in [*ROWS, *ON_CUDA]]
    return [by_title[title] for title in titles if title in by_title]


def write(results: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write `results` as JSON, and keep the file's other rows."""
    rows = with_earlier(results, arguments.output, arguments.scale)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    content = {"scale": arguments.scale, "runs": arguments.runs, "environment": environment(), "rows": rows}
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")


def gpu() -> str | None:
    """Return the GPU's name. Another process imports torch, because a child's peak memory starts at its parent's."""
    ask = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    return (
        subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.strip() or None
    )


def environment() -> dict[str, object]:
    """Return the processor, GPU and versions that the measurements used."""
    return {
        "processor": run_record.processor(),
        "cores": os.cpu_count(),
        "cuda": gpu(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("torch", "numpy", "pandas", "duckdb", "pyarrow", "dvc")},
    }


def main() -> None:
    """Measure the requested rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the dump; 1 is Goodreads'")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose title holds this")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    folder = prepare(arguments.scale)
    results = []
    for row in [*ROWS, *(ON_CUDA if gpu() else [])]:
        if arguments.only in row.title:
            print(row.title, file=sys.stderr)
            results.append(compare(row, grow(folder) if row.grown else folder, arguments.runs))
            write(results, arguments)  # after each row, because half an hour may be cut short
    if not gpu():
        print("no CUDA device here: the rows on it were not measured", file=sys.stderr)
    print(as_markdown(with_earlier(results, arguments.output, arguments.scale)))


if __name__ == "__main__":
    main()
