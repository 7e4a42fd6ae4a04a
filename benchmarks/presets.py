"""Compares presets of the params on a dump: an experiment a preset and seed; prints a table, writes it as JSON.

The experiments stay: `dvc exp show` lists them. Each seed draws other held-out readers, negatives, weights and batches.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dvc.api

from sasrec import overrides, visible

RESULTS = Path(__file__).parent / "results"
COLUMNS = [(ranked, name) for ranked in ("sampled", "full") for name in ("HR@10", "NDCG@10")]

NOTEBOOK = [
    "sasrec.init_std=1.0",
    "filter_reindex.same_day_order=book_idx",
    "evaluation.padding=false",
    "train.keep=last",
]
BEST = [
    "train.loss=softmax",
    "train.window=random",
    "sasrec.dropout_rate=0.2",
    "train.lr=0.002",
    "train.schedule=cosine",
    "train.warmup_steps=100",
    "train.num_epochs=60",
]
PUBLISHED = [
    "filter_reindex.min_ratings=1",
    "split.protocol=leave_one_out",
    "split.num_validation_users=5000",
    "evaluation.num_user_sample=null",
    "sasrec.norm_first=true",
    "train.loss=gbce",
    "train.num_negatives=32",
    "sasrec.dropout_rate=0.6",
    "train.weight_decay=0.1",
    "train.lr=0.002",
    "train.schedule=cosine",
    "train.warmup_steps=200",
    "train.num_epochs=70",
]
PRESETS = {
    "notebook": NOTEBOOK,
    "notebook-but-init_std": NOTEBOOK[1:],
    "notebook-but-init_std-order": NOTEBOOK[2:],
    "default": [],
    "default-softmax": BEST[:1],
    "default-softmax-window-dropout": BEST[:3],
    "best": BEST,
}
"""What `-S` changes of params.yaml: the three presets, and the steps from one to the next."""

ALL = PRESETS | {"published": PUBLISHED}
"""With the protocol of the SASRec paper, for its own data sets."""

Metrics = dict[str, dict[str, dict[str, float]]]


def command(changes: Sequence[str]) -> list[str]:
    """Return the words of `dvc exp run` that make these changes."""
    return ["dvc", "exp", "run", *(word for change in changes for word in ("-S", change))]


def run(name: str, changes: Sequence[str]) -> dict[str, Any]:
    """Return the metrics of an experiment of that name, run outside the workspace unless it is there already."""
    known = subprocess.run(["dvc", "exp", "list", "--name-only"], capture_output=True, text=True, check=True).stdout
    if name not in known.split():
        words = [*command(changes), "--temp", "--name", name]
        print(shlex.join(words), file=sys.stderr)
        if subprocess.run(words, stdout=sys.stderr, check=False).returncode:
            sys.exit(f"error: {shlex.join(words)} failed, see above")
    return dvc.api.metrics_show(rev=name)


def mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)


def average(runs: Sequence[Metrics]) -> Metrics:
    """Return the mean over runs of every scorer's metrics; a half-width is that of a mean of independent ones."""
    return {
        scorer: {
            ranked: {
                name: sum(run[scorer][ranked][name] ** 2 for run in runs) ** 0.5 / len(runs)
                if name.endswith("half_width")
                else mean([run[scorer][ranked][name] for run in runs])
                for name in runs[0][scorer][ranked]
            }
            for ranked in ("sampled", "full")
        }
        for scorer in ("sasrec", "popularity", "recent_popularity", "item_transitions")
    }


def cells(metrics: dict[str, dict[str, float]]) -> list[str]:
    """Return the metrics of a scorer as text."""
    return [f"{metrics[ranked][name]:.3f} ± {metrics[ranked][name + '_half_width']:.3f}" for ranked, name in COLUMNS]


def as_markdown(results: dict[str, dict[str, Any]]) -> str:
    """Return the table: a line a preset, and one a baseline."""
    rows = [["preset", "HR@10", "NDCG@10", "full HR@10", "full NDCG@10", "steps"], ["---"] * 6]
    rows += [[name, *cells(found["metrics"]["sasrec"]), str(found["steps"])] for name, found in results.items()]
    last = list(results.values())[-1]["metrics"]
    rows += [[scorer.replace("_", " "), *cells(last[scorer]), ""] for scorer in last if scorer != "sasrec"]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Run the presets asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a .json.gz dump")
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(PRESETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("-S", dest="changes", action="append", default=[], help="a further change, of every preset")
    parser.add_argument("--output", type=Path, default=RESULTS / "presets.json")
    arguments = parser.parse_args()
    source = ["fetch.source=file", overrides.argument("fetch.file", str(arguments.data.resolve()))]
    visible.on_any_terminal()  # the table has ±
    results = {}
    for preset in arguments.only:
        changes = [*ALL[preset], *arguments.changes]
        runs = [
            run(f"{preset}-{seed}", [*source, *changes, f"split.seed={seed}", f"train.seed={seed}"])
            for seed in arguments.seeds
        ]
        results[preset] = {
            "changes": changes,
            "steps": runs[0]["steps"],
            "kept_epochs": [each["kept_epoch"] for each in runs],
            "validation": [each["validation"] for each in runs],
            "metrics": average(runs),
            "sasrec_by_seed": [each["sasrec"] for each in runs],
        }
    print(as_markdown(results))
    content = {"data": arguments.data.name, "seeds": arguments.seeds, "presets": results}
    arguments.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
