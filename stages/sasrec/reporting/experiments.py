"""Lists experiments as a table that fits a terminal; DVC's own has a column a metric, param and file of code."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sasrec.core import params, visible

METRIC = "NDCG@10"  # training selects by it
WIDTH = 100
NAME = 16
HEADS = (
    ("", "", "", "", "network", "", "hybrid", "", "", ""),
    ("", "experiment", "created", "epoch", "full", "sampled", "weight", "full", "sampled", "params changed"),
)
FORM = "{:1} {:<16} {:<11} {:>5} {:>7} {:>7} {:>6} {:>6} {:>7}  {}"


class Run(NamedTuple):
    """A finished run: of the workspace, of a commit or of an experiment."""

    name: str
    is_experiment: bool
    created: str  # in ISO 8601; empty for the workspace
    train: Mapping[str, Any]  # the metrics of training
    changed: Mapping[str, Any]  # the params that differ from the commit that an experiment began from

    @property
    def validation(self) -> float:
        """The network's metric among all books, on the validation users."""
        return float(self.train["kept_validation"]["full"][METRIC])


def runs(shown: Sequence[Mapping[str, Any]], path: str, metrics: str) -> Iterator[Run]:
    """Yield the workspace, the last commit, and the experiments of every commit that have finished.

    `shown` is what `dvc exp show --json` prints; `path` is the file of params and `metrics` that of training's.
    """
    for number, commit in enumerate(shown):
        began_from = _keys(_data(commit, "params", path))
        experiments = [experiment["revs"][0] for experiment in commit["experiments"] or []]
        for run in [commit, *experiments] if number < 2 else experiments:
            train = _data(run, "metrics", metrics)
            if "hybrid_validation" in train:
                changed = dict(each for each in _keys(_data(run, "params", path)) if each not in began_from)
                name = run["name"] or run["rev"]
                yield Run(name, run is not commit, run["data"]["timestamp"] or "", train, changed)


def as_text(runs: Sequence[Run]) -> str:
    """Return the table, the best validation metric first; a star marks the newest experiment."""
    newest = max((run for run in runs if run.is_experiment), key=lambda run: run.created, default=None)
    lines = [FORM.format(*head).rstrip() for head in HEADS]
    for run in sorted(runs, key=lambda run: run.validation, reverse=True):
        line = FORM.format("*" if run is newest else "", *_cells(run)).rstrip()
        lines.append(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…")
    return "\n".join(lines)


def _cells(run: Run) -> list[object]:
    """Return the cells of a row after the star."""
    name = visible.text(run.name)
    created = f"{datetime.fromisoformat(run.created):%m-%d %H:%M}" if run.created else ""
    network, hybrid = (
        [f"{run.train[key][ranked][METRIC]:.3f}" for ranked in ("full", "sampled")]
        for key in ("kept_validation", "hybrid_validation")
    )
    changed = " ".join(visible.text(f"{key}={params.shown(value)}") for key, value in run.changed.items())
    shortened = name if len(name) <= NAME else name[: NAME - 1] + "…"
    weights = "+".join(f"{weight:g}" for weight in run.train["hybrid_weights"].values())
    return [shortened, created, run.train["kept_epoch"], *network, weights, *hybrid, changed]


def _data(run: Mapping[str, Any], kind: str, path: str) -> Mapping[str, Any]:
    """Return the content of a file of params or metrics; nothing where the run failed, waits or lacks the file."""
    return ((run.get("data") or {}).get(kind, {}).get(path) or {}).get("data") or {}


def _keys(sections: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{section}.{key}", value) for section, keys in sections.items() for key, value in keys.items()]
