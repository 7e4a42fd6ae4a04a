"""Writes report.html, one file that opens without a network: data, metrics, plots, examples, and how to get it again.

No stage: it reads what the pipeline wrote, and git and DVC tell whether that is of this code and these params.
"""

from sasrec import interrupts

if __name__ == "__main__":
    interrupts.end_at_once(interrupts.OF_A_TOOL)  # where Ctrl-C or SIGTERM comes during the imports

import argparse
import base64
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sasrec import device, errors, holdout, outputs, overrides, params, ranking, scorers, titles, visible, vocabulary
from sasrec.recommender import Recommender

TRAIN = Path("data/split/train.safetensors")
EVALUATION = Path("data/split/evaluation.safetensors")
BOOKS = Path("data/processed/books.parquet")
MODELS = Path("models")
PARAMS = Path("params.yaml")
ENVIRONMENT = Path("models/environment.json")  # of no stage: absent where the model came from a cache
METRICS = {name: Path(f"metrics/{name}.json") for name in ("data", "train", "eval")}
CODE = ("stages", "dvc.yaml", "pyproject.toml", "constraints.txt")  # what a result depends on, beside the params
TEMPLATE = Path(__file__).parent / "report.html.jinja"
NUM_EXAMPLES = 6  # readers
NUM_SHOWN = 5  # books of a reader's history, and recommended ones


def output_of(*command: str) -> str:
    """Return what `command` prints; raise UserError with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        words = command[2:] if command[0] == sys.executable else command
        raise errors.UserError(f"`{' '.join(words[:2])}` failed: {last}; mend that and run it again")
    return done.stdout


def of_dvc(*arguments: str) -> dict[str, Any]:
    """Return the object that a DVC command answers in JSON."""
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


def examples(names: dict[str, str]) -> list[dict[str, Any]]:
    """Return what the model recommends to some held-out readers, beside their latest books and the true next one.

    `names` are the books' by their ids; a book without one goes by its id.
    """
    evaluation = params.load("evaluation", holdout.EvaluationParams)
    device.use("cpu", torch.get_num_threads())
    held_out = holdout.load_held_out(EVALUATION, holdout.load_training_set(TRAIN))
    recommender = Recommender.load(MODELS, padding=evaluation.padding)
    ids = vocabulary.books(BOOKS).ids.to_pylist()
    shown_as = [names.get(id_, f"book {id_}") for id_ in ids]  # of book_idx, from 1

    ranks = ranking.rank(held_out, scorers.by_model(recommender.model, padding=evaluation.padding)).full
    readers = np.linspace(0, len(held_out.users) - 1, min(NUM_EXAMPLES, len(held_out.users))).astype(int)
    ends = held_out.histories.offsets
    histories = [held_out.histories.items[ends[reader] : ends[reader + 1]].tolist() for reader in readers]
    best = recommender.recommend(histories, min(NUM_SHOWN, len(ids))).books
    return [
        {
            "number": held_out.users[reader].item(),
            "num_books": len(history),
            "latest": [shown_as[book - 1] for book in history[-NUM_SHOWN:]],
            "recommended": [
                {"name": shown_as[book - 1], "is_true": book == held_out.true_books[reader]} for book in books if book
            ],
            "true_book": shown_as[held_out.true_books[reader] - 1],
            "rank": ranks[reader].item() + 1,
        }
        for reader, history, books in zip(readers, histories, best.tolist(), strict=True)
    ]


def origin() -> dict[str, Any]:
    """Return where the outputs come from: the revision, what differs from it, and what DVC finds out of date."""
    changed = output_of("git", "status", "--porcelain", *CODE).splitlines()
    committed = output_of("git", "show", "HEAD:./params.yaml").encode()
    differing = changed_params(params.parse(committed, "params.yaml of HEAD"), params.read(PARAMS))
    return {
        "revision": output_of("git", "rev-parse", "HEAD").strip(),
        "changed_code": [line[3:] for line in changed],
        "changed_params": differing,
        "overrides": overrides.words({key: values["new"] for key, values in differing.items()}),
        "out_of_date": list(of_dvc("status")),
    }


def changed_params(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by its name, in the order of `new`, each param that `old` has not with the same value."""
    return {
        f"{section}.{key}": {"old": old.get(section, {}).get(key), "new": value}
        for section, keys in new.items()
        for key, value in keys.items()
        if repr(old.get(section, {}).get(key, ...)) != repr(value)  # 1, 1.0 and true are equal, but not the same
    }


def render(content: dict[str, Any]) -> str:
    """Return the page; what is in `content` is escaped."""
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_yaml"] = params.shown
    environment.filters["shown"] = lambda text: markupsafe.Markup("<bdi>{}</bdi>").format(visible.text(text))
    return environment.get_template(TEMPLATE.name).render(content)


def require_libraries() -> None:
    """Raise UserError where what the report is drawn with is not installed."""
    for name in ("jinja2", "vl_convert"):
        if find_spec(name) is None:
            raise errors.UserError(f"the report needs {name}; run `pip install -c constraints.txt -e '.[report]'`")


def write_report() -> None:
    """Read the arguments and what the pipeline wrote; write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--titles", type=Path, help="CSV with the columns book_id and title, to name the books")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="default: %(default)s")
    arguments = parser.parse_args()
    output = arguments.output.resolve()  # of a symbolic link the file that it leads to: the user means that one
    outputs.require_replaceable(output)
    require_libraries()
    errors.require(TRAIN, EVALUATION, BOOKS, *METRICS.values())
    metrics = {name: json.loads(path.read_bytes()) for name, path in METRICS.items()}
    content = {
        **metrics,
        "measures": [name for name in metrics["eval"]["sasrec"]["sampled"] if not name.endswith("_half_width")],
        "params": params.read(PARAMS),
        "origin": origin(),
        "plots": plots(),
        "examples": examples(titles.read(arguments.titles) if arguments.titles else {}),
        "environment": json.loads(ENVIRONMENT.read_bytes()) if ENVIRONMENT.is_file() else None,
    }
    page = render(content)
    with outputs.whole(output) as partial:
        partial.write_text(page, encoding="utf-8")
    print(f"{visible.text(arguments.output)}: {len(page) / 1e6:.1f} MB; open it with a browser")


if __name__ == "__main__":
    errors.run(write_report, interrupts.OF_A_TOOL)
