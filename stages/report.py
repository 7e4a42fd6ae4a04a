"""Writes report.html, one file that opens without a network: data, metrics, plots, examples, and how to get it again.

No stage: it reads what the pipeline wrote, and git and DVC tell whether that is of this code and these params.
"""

import argparse
import base64
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sasrec import device, errors, holdout, inputs, model, outputs, params, ranking, scorers

TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
BOOKS = Path("data/processed/books.parquet")
WEIGHTS = Path("models/sasrec.safetensors")
CONFIG = Path("models/sasrec.json")
ENVIRONMENT = Path("models/environment.json")  # of no stage: absent where the model came from a cache
METRICS = {name: Path(f"metrics/{name}.json") for name in ("data", "train", "eval")}
CODE = ("stages", "dvc.yaml", "pyproject.toml", "constraints.txt")  # what a result depends on, beside the params
TEMPLATE = Path(__file__).parent / "report.html.jinja"
BOOK_IDS = pa.schema([("book_idx", pa.int32()), ("book_id", pa.string())])
NUM_EXAMPLES = 6  # readers
NUM_SHOWN = 5  # books of a reader's history, and recommended ones


def output_of(*command: str) -> str:
    """Return what `command` prints; raise UserError with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise errors.UserError(f"`{' '.join(command[-3:])}` failed: {last}; mend that and run it again")
    return done.stdout


def of_dvc(*arguments: str) -> Any:  # noqa: ANN401, what JSON holds
    """Return what a DVC command answers in JSON."""
    return json.loads(output_of(sys.executable, "-m", "dvc", *arguments, "--json"))


def plots() -> list[dict[str, Any]]:
    """Return the plots of dvc.yaml in its order: name, title, whether it is wide, and an SVG as an address."""
    import vl_convert

    drawn = []
    for name, versions in of_dvc("plots", "show")["data"].items():
        for each in versions:
            spec = each["content"]
            title = spec.pop("title")["text"]
            svg = vl_convert.vegalite_to_svg(spec)
            # An image of its own: within the page, the names that one SVG gives to its parts would be another's, too.
            address = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
            drawn.append({"name": name, "title": title, "address": address, "is_wide": "facet" in spec})
    return drawn


def read_titles(path: Path) -> dict[str, str]:
    """Return the title of each book id in a CSV file with the columns book_id and title, and authors if it likes.

    Raises:
        UserError: the file is missing, not such a table, or not in UTF-8.

    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        named = {row["book_id"]: (row["title"], row.get("authors")) for row in rows or [{}]}
        return {book: title + (f" — {authors}" if authors else "") for book, (title, authors) in named.items()}
    except (KeyError, TypeError, csv.Error, UnicodeDecodeError) as error:
        raise errors.UserError(f"{path}: no CSV with the columns book_id and title ({error!r}); give another") from None


def examples(titles: dict[str, str]) -> list[dict[str, Any]]:
    """Return what the model recommends to some held-out readers, beside their latest books and the true next one.

    A book without a title goes by its id.
    """
    evaluation = params.load("evaluation", holdout.EvaluationParams)
    device.use("cpu", torch.get_num_threads())
    training_set = holdout.load_training_set(TRAIN)
    held_out = holdout.load_held_out(EVALUATION, training_set)
    network = model.load(WEIGHTS, model.load_config(CONFIG))
    ids = inputs.read_parquet(BOOKS, BOOK_IDS).to_pydict()
    names = {book: titles.get(id_, f"book {id_}") for book, id_ in zip(*ids.values(), strict=True)}

    readers = np.linspace(0, len(held_out.users) - 1, min(NUM_EXAMPLES, len(held_out.users))).astype(int)
    scorer = scorers.by_model(network, padding=evaluation.padding)
    ranks = ranking.rank(held_out, scorer).full
    shown = []
    for reader, scores in zip(readers, scorer(held_out.histories)(readers).clone(), strict=True):
        first, last = held_out.histories.offsets[reader : reader + 2]
        history = held_out.histories.items[first:last]
        scores[0] = scores[history] = -torch.inf  # padding, and what the reader knows
        best = scores.topk(min(NUM_SHOWN, len(names)))
        recommended = best.indices[best.values > -torch.inf].tolist()
        true_book = held_out.true_books[reader].item()
        shown.append(
            {
                "number": held_out.users[reader].item(),
                "num_books": len(history),
                "latest": [names[book] for book in history[-NUM_SHOWN:].tolist()],
                "recommended": [{"name": names[book], "is_true": book == true_book} for book in recommended],
                "true_book": names[true_book],
                "rank": ranks[reader].item() + 1,
            }
        )
    return shown


def origin() -> dict[str, Any]:
    """Return where the outputs come from: the revision, what differs from it, and what DVC finds out of date."""
    changed = output_of("git", "status", "--porcelain", *CODE).splitlines()
    differing = of_dvc("params", "diff").get("params.yaml", {})
    return {
        "revision": output_of("git", "rev-parse", "HEAD").strip(),
        "changed_code": [line[3:] for line in changed],
        "changed_params": {key: values for key, values in differing.items() if values.get("old") != values.get("new")},
        "out_of_date": list(of_dvc("status")),
    }


def render(content: dict[str, Any]) -> str:
    """Return the page; what is in `content` is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_yaml"] = json.dumps  # JSON is YAML: null, true and "text", as in params.yaml
    return environment.get_template(TEMPLATE.name).render(content)


def require_libraries() -> None:
    """Raise UserError where what the report is drawn with is not installed."""
    try:
        import jinja2  # noqa: F401
        import vl_convert  # noqa: F401
    except ModuleNotFoundError as error:
        raise errors.UserError(
            f"the report needs {error.name}; run `pip install -c constraints.txt -e '.[report]'`"
        ) from None


def write_report() -> None:
    """Read the arguments and what the pipeline wrote; write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--titles", type=Path, help="CSV with the columns book_id and title, to name the books")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="default: %(default)s")
    arguments = parser.parse_args()
    require_libraries()
    errors.require(TRAIN, EVALUATION, BOOKS, WEIGHTS, CONFIG, *METRICS.values())
    metrics = {name: json.loads(path.read_text()) for name, path in METRICS.items()}
    content = {
        **metrics,
        "measures": [name for name in metrics["eval"]["sasrec"]["sampled"] if not name.endswith("_half_width")],
        "params": params.read(Path("params.yaml")),
        "origin": origin(),
        "plots": plots(),
        "examples": examples(read_titles(arguments.titles) if arguments.titles else {}),
        "environment": json.loads(ENVIRONMENT.read_text()) if ENVIRONMENT.is_file() else None,
    }
    page = render(content)
    with outputs.whole(arguments.output) as partial:
        partial.write_text(page, encoding="utf-8")
    print(f"{arguments.output}: {len(page) / 1e6:.1f} MB; open it with a browser")


if __name__ == "__main__":
    errors.run(write_report)
