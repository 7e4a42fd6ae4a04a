"""Writes the model card: Markdown with the YAML front matter that model hubs read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import yaml
from huggingface_hub import CardData, RepoCard

from sasrec.core import params
from sasrec.core.errors import UserError
from sasrec.evaluation.metrics import definitions
from sasrec.model.params import SasrecParams
from sasrec.reporting import metrics_table
from sasrec.reporting.card_params import CardParams
from sasrec.reporting.metrics_table import Estimates
from sasrec.split.datasets import TrainingSet
from sasrec.split.params import EvaluationParams, SplitParams
from sasrec.training.params import TrainParams

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
LABELS = {"sasrec": "SASRec, this model", "hybrid": "this model and counts"}
GOODREADS = "https://cseweb.ucsd.edu/~jmcauley/datasets/goodreads.html"


class Fetched(msgspec.Struct, frozen=True):
    """The param of section `fetch` that the card shows; it leaves out paths and addresses."""

    source: Literal["demo", "goodreads", "file"]


class Formatted(msgspec.Struct, frozen=True):
    """The param of section `dump_format` that the card shows."""

    preset: str


class Filtered(msgspec.Struct, frozen=True):
    """The params of section `filter_reindex` that the card shows."""

    min_ratings: int
    min_item_ratings: int
    k_core: bool
    duplicates: str
    same_day_order: str


class Params(msgspec.Struct, frozen=True):
    """The params that the card shows; dvc.yaml must declare them for the stage that writes the card."""

    fetch: Fetched
    dump_format: Formatted
    filter_reindex: Filtered
    split: SplitParams
    evaluation: EvaluationParams
    sasrec: SasrecParams
    train: TrainParams
    card: CardParams


class Counts(NamedTuple):
    """The size of the training and evaluation data."""

    users: int  # left after the filter
    books: int
    training_users: int
    training_ratings: int
    evaluation_users: int


class Source(NamedTuple):
    """The card's texts about the data of one `fetch.source`."""

    name: str
    description: str
    licence: str
    front_matter: Mapping[str, str]  # the licence in the form that hubs read


SOURCES = {
    "demo": Source(
        "made-up demo",
        "A made-up demo: none of its readers and books exists. Its readers finish their series in order, which is\n"
        "easy to learn. **The figures say nothing about real readers**; the model is there to try the pipeline.",
        "The pipeline made the data up; they are as free as its code (MIT).",
        {"license": "mit"},
    ),
    "goodreads": Source(
        "Goodreads spoiler reviews",
        f"The [Goodreads spoiler reviews]({GOODREADS}) of UC San Diego:\npublic reviews, collected in 2017.",
        "The data are for academic use only and must not be redistributed. Ask their authors before a model trained\n"
        "on them is used for anything else.",
        {"license": "other", "license_name": "academic-use-only", "license_link": GOODREADS},
    ),
    "file": Source(
        "your own file",
        "Your own file (`fetch.file`).",
        "The params do not name the licence of the data (`card.data_licence`). What it forbids, it forbids to\n"
        "the model, too.",
        {"license": "unknown"},
    ),
}
PROTOCOLS = {
    "holdout_users": "the readers evaluated did not train; each one's last book is the true one.",
    "leave_one_out": "every reader trained; the last book is the true one, and the one before it validates.",
    "temporal": "what was read up to a day trained; a reader's first book after that day is the true one.",
}


def read_params(path: Path) -> Params:
    """Return the card's params from the YAML file at `path`; raise UserError if a value is invalid."""
    try:
        return msgspec.convert(params.read(path), Params)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {error}") from None


def source_of(params: Params) -> Source:
    """Return the card's texts about the data, with the name and licence of section `card` where they are given."""
    source, name, licence = SOURCES[params.fetch.source], params.card.data_name, params.card.data_licence
    if name:
        source = source._replace(name=name, description=f"{name}.")
    if licence:
        front_matter = {"license": "other", "license_name": licence}
        text = f"{licence}. What it forbids, it forbids to the model, too."
        source = source._replace(licence=text, front_matter=front_matter)
    return source


def count(train: TrainingSet, evaluation_users: int) -> Counts:
    """Return the counts of users, books and ratings in the training set, and the number of `evaluation_users`."""
    trained = train.histories
    return Counts(train.num_users, train.num_books, len(trained), len(trained.items), evaluation_users)


def text(params: Params, counts: Counts, estimates: Estimates, example: Sequence[str]) -> str:
    """Return the card, as Markdown; it depends on these arguments alone. `example` are ids of two books.

    RepoCard, the base class of ModelCard, keeps the order of the front matter.
    """
    source, k = source_of(params), params.evaluation.cutoffs[0]
    card = RepoCard.from_template(
        CardData(**_front_matter(params, estimates)),
        template_path=str(TEMPLATE),
        source=source,
        example=example,
        params=params,
        counts={name: f"{number:,}" for name, number in counts._asdict().items()},
        protocol=PROTOCOLS[params.split.protocol],
        definitions=definitions(k),
        table=metrics_table.as_markdown(estimates, LABELS),
        comparison=_comparison(estimates, f"NDCG@{k}"),
        steps=f"{params.train.num_epochs * (counts.users // params.train.batch_size):,}",
        params_yaml=yaml.safe_dump(msgspec.to_builtins(params), sort_keys=False, allow_unicode=True),
    )
    return str(card) + "\n"


def _front_matter(params: Params, estimates: Estimates) -> dict[str, Any]:
    """Return the front matter (https://github.com/huggingface/hub-docs/blob/main/modelcard.md)."""
    source = source_of(params)
    lists = {"sampled": f"{params.evaluation.num_item_sample + 1} books", "full": "all books"}
    measured = [
        {"type": name.lower(), "name": f"{name}, {ranked}", "value": estimates["sasrec"][key][name].mean}
        for key, ranked in lists.items()
        for name in metrics_table.names(estimates)
    ]
    result = {
        "task": {"type": "sequential-recommendation", "name": "next-book recommendation"},
        "dataset": {"type": params.fetch.source, "name": source.name},
        "metrics": measured,
    }
    return {
        **source.front_matter,
        "library_name": "pytorch",
        "pipeline_tag": "other",  # the hubs have no name for recommending
        "tags": ["recommender-system", "sequential-recommendation", "sasrec", "books"],
        "model-index": [{"name": "sasrec", "results": [result]}],
    }


def _comparison(estimates: Estimates, name: str) -> str:
    """Return which baselines beat the model by a metric, because a table alone hides them."""
    better = {
        ranked: [
            metrics_table.label(scorer, LABELS)
            for scorer, by_list in estimates.items()
            if scorer != "hybrid" and by_list[ranked][name].mean > estimates["sasrec"][ranked][name].mean
        ]
        for ranked in ("sampled", "full")
    }
    lines = [
        f"By {ranked} {name}, {' and '.join(scorers)} did better than the model."
        for ranked, scorers in better.items()
        if scorers
    ]
    return "\n".join(lines) or f"By {name}, no baseline did better than the model."
