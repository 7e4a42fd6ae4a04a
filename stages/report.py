"""Writes report.html, one file that opens without a network: data, metrics, plots, examples, and how to get it again.

This script is no stage. It reads the pipeline's outputs, and git and DVC tell whether code and params still match them.
"""

from sasrec.core import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
import json
import os
from pathlib import Path
from typing import Any

from sasrec.runtime import reproducibility

os.environ.update(reproducibility.environment(Path("params.yaml")))  # before torch is imported, which reads them once

from sasrec.core import errors, params, visible
from sasrec.evaluation import rank_table
from sasrec.evaluation.metrics import definitions
from sasrec.io import files
from sasrec.reporting import against, data_set, metrics_table, model_card, page, provenance, stage_records, verdict
from sasrec.reporting.examples import examples
from sasrec.runtime import cores, device
from sasrec.serving import vocabulary
from sasrec.serving.recommender import Recommender
from sasrec.split import datasets
from sasrec.split.params import EvaluationParams

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")
TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
USERS = Path("data/processed/users.parquet")
BOOKS = Path("data/processed/books.parquet")
RANKS = Path("data/evaluation/ranks.parquet")
MODEL = Path("models/sasrec")
METRICS = {name: Path(f"metrics/{name}.json") for name in ("data", "train", "eval", "intervals")}
CODE = ("stages", "dvc.yaml", "pyproject.toml", "constraints.txt")  # a result depends on these and the params


def show_examples(train: datasets.TrainingSet, names_from: Path | None) -> list[dict[str, Any]]:
    """Return the examples of the page; a book that the file `names_from` does not name shows its id."""
    device.use("cpu", cores.num_threads(PARAMS))
    held_out = datasets.load_held_out(EVALUATION, train)
    recommender = Recommender.load(MODEL, titles_from=names_from)
    ids = recommender.model.books.ids.to_pylist()
    user_ids = vocabulary.users(USERS, train.num_users).ids_of(held_out.users).to_pylist()
    return examples(recommender, held_out, user_ids, [recommender.titles.get(id_, f"book {id_}") for id_ in ids])


def parse_arguments() -> argparse.Namespace:
    """Return the arguments; print the usage and exit with status 2 if they are invalid."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--titles", type=Path, help="a file with the titles of the books (docs/your-data.md)")
    parser.add_argument("--against", metavar="RUN", help="compare with a git revision, an experiment or a clone")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="default: %(default)s")
    return parser.parse_args()


def main() -> None:
    """Read the arguments and the pipeline's outputs; write the page."""
    arguments = parse_arguments()
    output = arguments.output.resolve()  # the target of a symbolic link is replaced, not the link
    files.require_replaceable(output)
    page.require_library()
    errors.require(TRAIN, EVALUATION, USERS, BOOKS, RANKS, *METRICS.values())
    metrics = {name: json.loads(path.read_bytes()) for name, path in METRICS.items()}
    all_params, evaluation_params = params.read(PARAMS), params.load(PARAMS, "evaluation", EvaluationParams)
    cutoffs = evaluation_params.cutoffs
    source = model_card.source_of(model_card.read_params(PARAMS))
    train, ranks = datasets.load_training_set(TRAIN), rank_table.read(RANKS)
    content = {
        **metrics,
        "estimates": metrics_table.from_files(metrics["eval"], metrics["intervals"]),
        "leads": verdict.leads(ranks, cutoffs[0]),
        "limits": verdict.limits(all_params["fetch"]["source"]),
        "against": against.compare(arguments.against, ranks, cutoffs, RANKS, PARAMS) if arguments.against else None,
        "definitions": definitions(cutoffs[0]),
        "params": all_params,
        "origin": provenance.origin(CODE, all_params),
        "data_set": data_set.describe(source, all_params, train.days, LOCK),
        "plots": page.plots(all_params),
        "examples": show_examples(train, arguments.titles),
        "records": stage_records.read(PIPELINE, LOCK),
    }
    html = page.render(content)
    with files.atomic_write(output) as partial:
        partial.write_text(html, encoding="utf-8")
    print(f"{visible.text(arguments.output)}: {len(html) / 1e6:.1f} MB; open it with a browser")


if __name__ == "__main__":
    errors.run(main, interrupts.OF_A_TOOL)
