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
from sasrec.evaluation.metrics import HALF_WIDTH
from sasrec.reporting import metrics_table, runs
from sasrec.reporting.metrics_table import Metrics

RESULTS = Path(__file__).parent / "results"
PARAMS = Path("params.yaml")
METRICS = Path("metrics/eval.json")
SCORERS = ("sasrec", "hybrid", *BASELINES)

PAPER = [f"{section}.{key}={value}" for section, keys in measure.PAPER.items() for key, value in keys.items()]
"""The SASRec paper's training."""

LONG = ["train.num_negatives=4096", "train.window=random", "train.warmup_steps=100"]
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
    "sasrec.hidden_units=128",
    "sasrec.num_heads=2",
    "sasrec.dropout_rate=0.4",
    *LONG,
    "train.lr=0.001",
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
    "train.lr=0.002",
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
    """Return the metrics of the experiment `name`; unless it exists, run it outside the workspace first."""
    runs.make_experiment(name, changes, PARAMS)
    of_rankers = json.loads(dvc.api.read(METRICS.as_posix(), rev=name))  # other files have metrics of these names
    return {**dvc.api.metrics_show(rev=name), **of_rankers}


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def average(results: Sequence[Metrics]) -> Metrics:
    """Return every scorer's mean metrics over `results`; half-widths combine as for independent runs."""
    return {
        scorer: {
            ranked: {
                name: sum(run[scorer][ranked][name] ** 2 for run in results) ** 0.5 / len(results)
                if name.endswith(HALF_WIDTH)
                else mean([run[scorer][ranked][name] for run in results])
                for name in results[0][scorer][ranked]
            }
            for ranked in ("sampled", "full")
        }
        for scorer in SCORERS
    }


def as_markdown(results: dict[str, dict[str, Any]]) -> str:
    """Return the table in Markdown: a line for each preset and for each baseline."""
    tables = {name: metrics_table.table(found["metrics"], decimals=3) for name, found in results.items()}
    last = list(tables.values())[-1]
    columns = [column.removeprefix("sampled ") for column in last.columns]
    rows = [["preset", *columns, "steps"], ["---"] * (len(columns) + 2)]
    for name, table in tables.items():
        steps, weight = results[name]["steps"], results[name]["hybrid_weights"]
        rows.append([name, *table.rows["sasrec"], str(steps)])
        rows.append([f"{name}, hybrid", *table.rows["hybrid"], f"weight {', '.join(f'{each:g}' for each in weight)}"])
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
        results[preset] = {
            "changes": changes,
            "steps": found[0]["steps"],
            "kept_epochs": [each["kept_epoch"] for each in found],
            "validation": [each["kept_validation"] for each in found],
            "hybrid_weights": [each["hybrid_weight"] for each in found],
            "metrics": average(found),
            "by_seed": [{scorer: each[scorer] for scorer in SCORERS[:2]} for each in found],
        }
    print(as_markdown(results))
    content = {"data": source.title(arguments.data), "seeds": arguments.seeds, "presets": results}
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
