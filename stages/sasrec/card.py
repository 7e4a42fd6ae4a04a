"""Describes a trained model as a model card: Markdown under the YAML front matter that model hubs read."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from ruamel.yaml import YAML

from sasrec import params
from sasrec.errors import UserError
from sasrec.holdout import EvaluationParams, HeldOut, SplitParams, TrainingSet
from sasrec.metrics_table import Metrics
from sasrec.model import SasrecParams
from sasrec.train_params import TrainParams

GOODREADS = "https://cseweb.ucsd.edu/~jmcauley/datasets/goodreads.html"


class Fetched(msgspec.Struct, frozen=True):
    """What the card says of section `fetch`; its path and addresses are nothing for a card."""

    source: Literal["demo", "goodreads", "file"]


class Filtered(msgspec.Struct, frozen=True):
    """Section `filter_reindex`."""

    min_ratings: int
    same_day_order: str


class Params(msgspec.Struct, frozen=True):
    """The params that the card names: they must be params of the stage that writes it."""

    fetch: Fetched
    filter_reindex: Filtered
    split: SplitParams
    evaluation: EvaluationParams
    sasrec: SasrecParams
    train: TrainParams


class Counts(NamedTuple):
    """How much the model was trained and evaluated on."""

    readers: int  # left after the filter
    books: int
    training_readers: int
    training_ratings: int
    evaluation_readers: int


class Source(NamedTuple):
    """What is said of the data of one `fetch.source`."""

    name: str
    description: str
    licence: str
    front_matter: Mapping[str, str]  # the licence as hubs read it


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
        "Your own file (`fetch.file`), in the format of the Goodreads reviews.",
        "The pipeline does not know the licence of your own file. What it forbids, it forbids to the model, too.",
        {"license": "unknown"},
    ),
}
SPLITS = {
    "holdout_users": "the readers evaluated did not train; each one's last book is the true one.",
    "leave_one_out": "every reader trained; the last book is the true one, and the one before it validates.",
    "temporal": "what was read up to a day trained; a reader's first book after that day is the true one.",
}
LABELS = {
    "sasrec": "SASRec, this model",
    "popularity": "popularity",
    "recent_popularity": "recent popularity",
    "item_transitions": "item transitions",
}


def read_params(path: Path) -> Params:
    """Return what the YAML file at `path` says of all stages; raise UserError where a value is none of theirs."""
    try:
        return msgspec.convert(params.read(path), Params)
    except msgspec.ValidationError as error:
        raise UserError(f"{path}: {error}") from None


def count(train: TrainingSet, evaluation: HeldOut) -> Counts:
    """Return how much the two hold."""
    trained = train.histories
    return Counts(train.num_readers, train.num_books, len(trained), len(trained.items), len(evaluation.users))


def text(said: Params, counts: Counts, metrics: Metrics) -> str:
    """Return the card of the model with these params, counts and metrics; nothing else enters it."""
    source = SOURCES[said.fetch.source]
    return f"""---
{_yaml(_front_matter(said, metrics))}---

# SASRec, a next-book recommender

Self-attentive sequential recommendation ([Kang & McAuley 2018](https://arxiv.org/abs/1808.09781)): it takes the latest
{said.sasrec.max_len} books of a reader, oldest first, and scores every book of the catalogue as the next one.
The pipeline wrote this card with the metrics.

## Data

{source.description}

{counts.readers:,} readers with at least {said.filter_reindex.min_ratings} reviews, {counts.books:,} books; \
{counts.training_readers:,} readers with {counts.training_ratings:,} ratings trained the model.

**Licence of the data.** {source.licence}

## Split

`{said.split.protocol}`: {SPLITS[said.split.protocol]}
{counts.evaluation_readers:,} readers are evaluated. Other books, which did not train either, validated each epoch.

## Metrics

HR@{said.evaluation.k} is the share of readers whose true book is among the first {said.evaluation.k}, \
NDCG@{said.evaluation.k} weighs its place, ± is the half-width of
the 95 % interval over the readers. *Sampled* ranks the true book among {said.evaluation.num_item_sample} books that \
the reader never
reviewed, *full* among all books.

{_table(metrics, said.evaluation.k)}

{_comparison(metrics, said.evaluation.k)}

## Limits

- It knows the books that it was trained on. A new book needs a new training.
- It sees which books were read, and in which order: no ratings, no texts, no dates.
- Readers with fewer than {said.filter_reindex.min_ratings} reviews were left out, and not measured.
- A book counts as right only if the reader reviewed it next: a good book that was not taken up counts as wrong.
- Nothing corrects for what was popular when the data were collected.
- Another seed of the training gives other figures; the intervals do not say how far apart.

## Params

```yaml
{_yaml(msgspec.to_builtins(said))}```
"""


def _front_matter(said: Params, metrics: Metrics) -> dict[str, Any]:
    source, k = SOURCES[said.fetch.source], said.evaluation.k
    lists = {"sampled": f"{said.evaluation.num_item_sample + 1} books", "full": "all books"}
    measured = [
        {"type": f"{name.lower()}@{k}", "name": f"{name}@{k}, {ranked}", "value": metrics["sasrec"][key][f"{name}@{k}"]}
        for key, ranked in lists.items()
        for name in ("HR", "NDCG")
    ]
    result = {
        "task": {"type": "sequential-recommendation", "name": "next-book recommendation"},
        "dataset": {"type": said.fetch.source, "name": source.name},
        "metrics": measured,
    }
    return {
        **source.front_matter,
        "library_name": "pytorch",
        "tags": ["recommender-system", "sequential-recommendation", "sasrec", "books"],
        "model-index": [{"name": "sasrec", "results": [result]}],
    }


def _table(metrics: Metrics, k: int) -> str:
    columns = [(ranked, f"{name}@{k}") for ranked in ("sampled", "full") for name in ("HR", "NDCG")]
    lines = ["| | " + " | ".join(f"{ranked} {name}" for ranked, name in columns) + " |", "|---" * 5 + "|"]
    for scorer, by_list in metrics.items():
        cells = [f"{by_list[r][name]:.3f} ± {by_list[r][f'{name}_half_width']:.3f}" for r, name in columns]
        lines.append(f"| {LABELS.get(scorer, scorer)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _comparison(metrics: Metrics, k: int) -> str:
    """Return which baselines rank better than the model: what a table alone lets one overlook."""
    name = f"NDCG@{k}"
    better = {
        ranked: [
            LABELS.get(s, s)
            for s, by_list in metrics.items()
            if by_list[ranked][name] > metrics["sasrec"][ranked][name]
        ]
        for ranked in ("sampled", "full")
    }
    lines = [f"By {ranked} {name}, {' and '.join(s)} did better than the model." for ranked, s in better.items() if s]
    return "\n".join(lines) or f"By {name}, no baseline did better than the model."


def _yaml(content: Mapping[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # the stub knows None only
    yaml.width = 1000
    stream = StringIO()
    yaml.dump(content, stream)
    return stream.getvalue()
