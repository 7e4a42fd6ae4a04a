"""The metrics of a ranking, each a mean over users. A new metric is a function and a row of METRICS."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

DECIMALS = 8


def hit_rates(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return 1 where the true book is among the first k, else 0, (users,) float64."""
    return (ranks < k).astype(np.float64)


def ndcgs(ranks: np.ndarray, k: int) -> np.ndarray:
    """Return 1 / log2(rank + 2) where the true book is among the first k, else 0, (users,) float64."""
    return np.where(ranks < k, 1 / np.log2(ranks + 2), 0)


class Metric(NamedTuple):
    """A row of METRICS."""

    of_users: Callable[[np.ndarray, int], np.ndarray]  # takes ranks (users,) from 0, and k; returns values (users,)
    definition: str  # the clause after the metric's name on the model card, which says readers
    is_share: bool = False  # of users: each value is 0 or 1


METRICS: Mapping[str, Metric] = {
    "HR": Metric(hit_rates, "is the share of readers whose true book is among the first {k}", is_share=True),
    "NDCG": Metric(ndcgs, "weighs its place"),
}
"""The metrics by their names, without the cutoff."""

RECIPROCAL_RANK = "MRR"  # has no cutoff, so it is of evaluation alone; its mean is the mean reciprocal rank


def names(k: int) -> list[str]:
    """Return the names of the metrics at cutoff k, such as HR@10."""
    return [f"{name}@{k}" for name in METRICS]


def of_users(ranks: np.ndarray, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """Return each user's metrics, (users,) each, by names such as HR@10: those at every cutoff, and 1 / rank."""
    at_cutoffs = {f"{name}@{k}": metric.of_users(ranks, k) for k in cutoffs for name, metric in METRICS.items()}
    return {**at_cutoffs, RECIPROCAL_RANK: 1 / (ranks + 1)}


def is_share(name: str) -> bool:
    """Return whether the metric of a name such as HR@10 is a share of users."""
    metric = METRICS.get(name.partition("@")[0])
    return metric is not None and metric.is_share


def definitions(k: int) -> str:
    """Return the definitions of the metrics at cutoff k, separated by commas."""
    return ", ".join(f"{name}@{k} {metric.definition.format(k=k)}" for name, metric in METRICS.items())


def summary(ranks: np.ndarray, k: int) -> dict[str, float]:
    """Return the mean of each metric of `ranks` (users,) at cutoff k; `intervals` says how far chance moves it.

    Values are rounded to DECIMALS, because numpy's sums and logarithms may differ in the last bit between processors.
    """
    return {f"{name}@{k}": round(float(metric.of_users(ranks, k).mean()), DECIMALS) for name, metric in METRICS.items()}
