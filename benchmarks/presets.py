"""Compares presets of the params on a dump, with an experiment for each preset and seed; prints a table, writes JSON.

The experiments stay: `dvc exp show` lists them. Each seed draws other held-out users, negatives, weights and batches.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dvc.api

import measure
import source
from sasrec.core import errors, interrupts
from sasrec.evaluation.baselines import BASELINES
from sasrec.evaluation.intervals import Estimate
from sasrec.reporting import metrics_table, runs
from sasrec.reporting.metrics_table import Estimates

RESULTS = Path(__file__).parent / "results"
PARAMS = Path("params.yaml")
METRICS = Path("metrics/eval.json")
INTERVALS = Path("metrics/intervals.json")
SCORERS = ("sasrec", "hybrid", *BASELINES)

PAPER = [f"{section}.{key}={value}" for section, keys in measure.PAPER.items() for key, value in keys.items()]
"""The SASRec paper's training."""

LONG = ["train.num_negatives=4096", "train.window=random", "train.lr=0.002", "train.warmup_steps=100"]
"""For trainings of more than ten epochs."""

NOTEBOOK = [
    "sasrec.init_std=1.0",
    "filter_reindex.same_day_order=book_idx",
    "evaluation.padding=false",
    "train.keep=last",
    *PAPER,
]
BEST = [
    "sasrec.max_len=100",
    "sasrec.hidden_units=64",
    "sasrec.num_heads=2",
    "sasrec.dropout_rate=0.4",
    *LONG,
    "train.num_epochs=50",
]
PUBLISHED = [
    "filter_reindex.min_ratings=1",
    "split.protocol=leave_one_out",
    "split.num_validation_users=5000",
    "evaluation.num_user_sample=null",
    "sasrec.norm_first=true",
    "sasrec.dropout_rate=0.5",
    "train.num_negatives=4096",
    "train.negatives=in_batch",
    "train.weight_decay=0.1",
    "train.lr=0.002",
    "train.warmup_steps=200",
    "train.num_epochs=20",
]
PUBLISHED_FULL = [
    *PUBLISHED[:5],
    "sasrec.max_len=200",
    "sasrec.hidden_units=128",
    "sasrec.num_heads=2",
    "sasrec.dropout_rate=0.4",
    *LONG,
    "train.num_epochs=40",
]
PRESETS = {
    "notebook": NOTEBOOK,
    "notebook-but-init_std": NOTEBOOK[1:],
    "notebook-but-init_std-order": NOTEBOOK[2:],
    "paper": PAPER,
    "default-without-counts": ["sasrec.init=normal"],
    "default": [],
    "best": BEST,
}
"""The `-S` changes of params.yaml for the presets, and for the steps from one to the next."""

ALL = PRESETS | {"published": PUBLISHED, "published-full": PUBLISHED_FULL}
"""All presets; the last two have the SASRec paper's protocol: for its own data sets, and for few items."""


def command(changes: Sequence[str]) -> list[str]:
    """Return the words of `dvc exp run` that make these changes."""
    return ["dvc", "exp", "run", *(word for change in changes for word in ("-S", change))]


def run(name: str, changes: Sequence[str]) -> dict[str, Any]:
    """Return the metrics and intervals of experiment `name`; unless it exists, run it outside the workspace first."""
    runs.make_experiment(name, changes, PARAMS)
    # Files, because metrics of other files have the same names.
    metrics, intervals = (json.loads(dvc.api.read(path.as_posix(), rev=name)) for path in (METRICS, INTERVALS))
    return {**dvc.api.metrics_show(rev=name), **metrics, "intervals": intervals}


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def average(results: Sequence[Estimates]) -> Estimates:
    """Return every scorer's mean metrics over `results`; the intervals combine as for independent runs."""
    return {
        scorer: {
            ranked: {
                name: combined([run[scorer][ranked][name] for run in results]) for name in results[0][scorer][ranked]
            }
            for ranked in ("sampled", "full")
        }
        for scorer in SCORERS
    }


def combined(of_runs: Sequence[Estimate]) -> Estimate:
    """Return the mean of a metric over independent runs."""
    middle = mean([each.mean for each in of_runs])
    half_width = sum(((each.high - each.low) / 2) ** 2 for each in of_runs) ** 0.5 / len(of_runs)
    return Estimate(middle, middle - half_width, middle + half_width)


def as_markdown(results: dict[str, dict[str, Any]]) -> str:
    """Return the table in Markdown: a line for each preset and for each baseline."""
    estimates = {
        name: metrics_table.from_files(found["metrics"], found["intervals"]) for name, found in results.items()
    }
    tables = {name: metrics_table.table(found) for name, found in estimates.items()}
    last = list(tables.values())[-1]
    columns = [column.removeprefix("sampled ") for column in last.columns]
    rows = [["preset", *columns, "steps"], ["---"] * (len(columns) + 2)]
    for name, table in tables.items():
        steps, weights = results[name]["steps"], results[name]["hybrid_weights"]
        rows.append([name, *table.rows["sasrec"], str(steps)])
        shown = ", ".join(f"{transitions:g} + {autoencoder:g}" for transitions, autoencoder in weights)
        rows.append([f"{name}, hybrid", *table.rows["hybrid"], f"weights {shown}"])
    rows += [[metrics_table.label(name, {}), *last.rows[name], ""] for name in BASELINES]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Run the requested presets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=source.names, help="a dump: a path, a glob, a URL, or several in one argument")
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(PRESETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("-S", dest="changes", action="append", default=[], help="a further change, of every preset")
    parser.add_argument("--output", type=Path, default=RESULTS / "presets.json")
    arguments = parser.parse_args()
    results = {}
    for preset in arguments.only:
        changes = [*ALL[preset], *arguments.changes]
        found = [
            run(
                f"{preset}-{seed}",
                [*source.changes(arguments.data), *changes, f"split.seed={seed}", f"train.seed={seed}"],
            )
            for seed in arguments.seeds
        ]
        estimates = [
            metrics_table.from_files({scorer: each[scorer] for scorer in SCORERS}, each["intervals"]) for each in found
        ]
        metrics, intervals = metrics_table.to_files(average(estimates))
        results[preset] = {
            "changes": changes,
            "steps": found[0]["steps"],
            "kept_epochs": [each["kept_epoch"] for each in found],
            "validation": [each["kept_validation"] for each in found],
            "hybrid_weights": [list(each["hybrid_weights"].values()) for each in found],
            "metrics": metrics,
            "intervals": intervals,
            "by_seed": [{scorer: each[scorer] for scorer in SCORERS[:2]} for each in found],
        }
    print(as_markdown(results))
    content = {"data": source.title(arguments.data), "seeds": arguments.seeds, "presets": results}
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
