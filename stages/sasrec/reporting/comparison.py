"""Compares the ranks of two runs, user by user where both ranked the same lists: what differs, and is it chance."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from scipy import stats

from sasrec.core.errors import UserError
from sasrec.evaluation import rank_table
from sasrec.evaluation.metrics import DECIMALS
from sasrec.evaluation.rank_table import RankTable, Task
from sasrec.interactions.bins import LABELS, bin_of

LEVEL = 0.05  # of the tests, and what the intervals leave out
RESAMPLES = 9999  # of each permutation test and bootstrap, for up to 5,000 users
MIN_RESAMPLES = 1999
USERS_RESAMPLED = 50_000_000  # at most, unless MIN_RESAMPLES takes more: for 30,000 users, half a minute
VALUES_AT_A_TIME = 1_000_000
MIN_USERS = 2  # of a group, for the bootstrap
SEED = 0


class Difference(msgspec.Struct, frozen=True):
    """How one metric of one ranker differs between the runs A and B, over all users or over a group of them."""

    by: str  # what groups the users: "all", "history_length" or "popularity" (of the true book)
    group: str  # "all", or a range
    ranker: str
    ranked: str  # the list: "sampled" or "full"
    metric: str
    users: int  # of A
    a: float
    b: float
    difference: float  # b - a
    low: float  # of the 95 % interval of the difference
    high: float
    p: float  # by Holm's method: corrected for all figures of "all", and for all groups of any other figure

    @property
    def is_beyond_chance(self) -> bool:
        """Whether a difference as large as this is rare where there is none."""
        return self.p < LEVEL


class Comparison(msgspec.Struct, frozen=True):
    """The differences between two runs."""

    a: str  # the name of a run
    b: str
    is_paired: bool  # both ranked the same lists
    users: tuple[int, int]
    shown: str  # the metric of the verdict and of the groups' table
    differences: list[Difference]


class Tested(NamedTuple):
    """The means of some figures in both runs, and the tests of their differences; each (figures,) float64."""

    a: np.ndarray
    b: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


Group = tuple[str, str]
"""What groups the users, and the range."""

ALL: Group = ("all", "all")


def compare(
    a: RankTable, b: RankTable, names: tuple[str, str], rankers: Sequence[str], cutoffs: Sequence[int]
) -> Comparison:
    """Return how the metrics of `rankers` differ from run `a` to run `b`.

    Runs that ranked the same lists are compared user by user, others as two independent samples.

    Raises:
        UserError: the metrics of the runs are not comparable, or one has no such ranker.

    """
    _require_comparable(a.task, b.task, names)
    for table, name in zip((a, b), names, strict=True):
        if missing := [ranker for ranker in rankers if ranker not in table.ranks]:
            raise UserError(f"{name} has no ranker {missing[0]}; choose some of {', '.join(table.ranks)}")
    is_paired = a.task == b.task
    groups_a = _groups(a)
    groups_b = groups_a if is_paired else _groups(b)  # pairs need one grouping, but popularity depends on the training
    by_ranking = rank_table.values(a, rankers, cutoffs)
    figures = [(*ranking, name) for ranking, of_ranking in by_ranking.items() for name in of_ranking]
    values_a, values_b = (
        np.stack(
            [each for of_ranking in rank_table.values(table, rankers, cutoffs).values() for each in of_ranking.values()]
        )
        for table in (a, b)
    )  # (figures, users)
    tested = {
        group: test(values_a[:, inside], values_b[:, groups_b[group]], is_paired=is_paired)
        for group, inside in groups_a.items()
        if group in groups_b and min(inside.sum(), groups_b[group].sum()) >= MIN_USERS
    }
    counts = {group: int(groups_a[group].sum()) for group in tested}
    differences = list(_differences(tested, counts, figures))
    return Comparison(*names, is_paired, (len(a.user_ids), len(b.user_ids)), f"NDCG@{cutoffs[0]}", differences)


def test(a: np.ndarray, b: np.ndarray, *, is_paired: bool) -> Tested:
    """Test the differences of the figures' means between `a` (figures, users) and `b` (figures, users of b).

    p is that of a permutation test: of swapping a user's two values, or, unpaired, of dividing the users anew. The
    interval is the percentile bootstrap's over users.
    """
    users = max(a.shape[1], b.shape[1])
    resamples = max(MIN_RESAMPLES, min(RESAMPLES, USERS_RESAMPLED // users))
    at_a_time = max(1, VALUES_AT_A_TIME // (len(a) * users))
    permuted = stats.permutation_test(
        (a, b),
        _mean_difference,
        permutation_type="samples" if is_paired else "independent",
        vectorized=True,
        n_resamples=resamples,
        batch=at_a_time,
        axis=-1,
        rng=np.random.default_rng(SEED),
    )
    interval = stats.bootstrap(
        (a, b),
        _mean_difference,
        paired=is_paired,
        vectorized=True,
        n_resamples=resamples,
        batch=at_a_time,
        axis=-1,
        confidence_level=1 - LEVEL,
        method="percentile",  # the others divide by 0 where no user differs
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Tested(a.mean(-1), b.mean(-1), interval.low, interval.high, permuted.pvalue)


def holm(p: np.ndarray) -> np.ndarray:
    """Return `p` (tests, ...) corrected for the number of tests by Holm's method, in the same shape."""
    order = np.argsort(p, axis=0)
    num_left = np.arange(len(p), 0, -1).reshape(-1, *[1] * (p.ndim - 1))
    ascending = np.maximum.accumulate(np.take_along_axis(p, order, axis=0) * num_left, axis=0)
    corrected = np.empty_like(p)
    np.put_along_axis(corrected, order, np.minimum(ascending, 1), axis=0)
    return corrected


def _mean_difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return b.mean(axis) - a.mean(axis)


def _require_comparable(a: Task, b: Task, names: tuple[str, str]) -> None:
    """Raise UserError unless both tasks rank equally many books for the same kind of users."""
    of_a, of_b = (
        f"protocol {task.protocol}, {task.num_negatives} negatives and {task.num_books} books" for task in (a, b)
    )
    if of_a != of_b:
        raise UserError(
            f"{names[0]} and {names[1]} are not comparable: {names[0]} has {of_a}, {names[1]} {of_b}; run one of them "
            "with the other's data and its params of filter_reindex, split.protocol and evaluation.num_item_sample"
        )


def _groups(table: RankTable) -> dict[Group, np.ndarray]:
    """Return which users are in each group, (users,) bool: all, then the ranges of the breakdowns."""
    groups = {ALL: np.ones(len(table.user_ids), bool)}
    for by, counts in (("history_length", table.history_lengths), ("popularity", table.popularity)):
        bins = bin_of(counts)
        groups |= {(by, LABELS[number]): bins == number for number in np.unique(bins)}
    return groups


def _differences(
    tested: Mapping[Group, Tested], counts: Mapping[Group, int], figures: Sequence[tuple[str, str, str]]
) -> Iterator[Difference]:
    """Yield the differences of all figures, group by group, with corrected p."""
    of_groups = [found.p for group, found in tested.items() if group != ALL]
    corrected = [holm(tested[ALL].p), *(holm(np.array(of_groups)) if of_groups else [])]
    for (group, found), p_values in zip(tested.items(), corrected, strict=True):
        columns = (found.a, found.b, found.b - found.a, found.low, found.high, p_values)
        rows = np.stack(columns, axis=1).round(DECIMALS).tolist()
        for figure, (of_a, of_b, difference, low, high, p) in zip(figures, rows, strict=True):
            yield Difference(*group, *figure, counts[group], of_a, of_b, difference, low, high, p)
