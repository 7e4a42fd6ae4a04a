"""Compares the ranks of two runs, or of two groups of runs that differ in their seeds: what differs, and is it chance.

Users are compared with themselves where both ranked the same lists.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from scipy import stats

from sasrec.core.errors import UserError
from sasrec.evaluation.metrics import DECIMALS
from sasrec.evaluation.rank_table import RankTable, Task
from sasrec.interactions.bins import LABELS, bin_of
from sasrec.reporting import chance, figures
from sasrec.reporting.chance import LEVEL
from sasrec.reporting.figures import Label

RESAMPLES = 9999  # of each permutation test and bootstrap, for up to 5,000 users
MIN_RESAMPLES = 1999
USERS_RESAMPLED = 50_000_000  # at most, unless MIN_RESAMPLES takes more: for 30,000 users, half a minute
VALUES_AT_A_TIME = 1_000_000
SEED = 0


class Difference(msgspec.Struct, frozen=True):
    """How one metric of one ranker differs between A and B, over all users or over a group of them."""

    by: str  # what groups the users: "all", "history_length" or "popularity" (of the true book)
    group: str  # "all", or a range
    ranker: str
    ranked: str  # the list: "sampled" or "full"
    metric: str
    users: int  # of A, in all its lists
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
    """The differences between A and B, each one run or several that differ in their seeds."""

    a: str  # its name
    b: str
    runs: tuple[int, int]
    lists: int  # that A ranked: another one in each run if more than 1
    is_paired: bool  # both ranked the same lists
    users: tuple[int, int]  # in all the lists
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

Runs = Mapping[str, RankTable]
"""Runs by their names."""

Design = Literal["users", "lists", "none"]
"""What pairs the values of A with those of B: users, lists (one a run, each with users of its own), or nothing."""


def compare(
    a: RankTable, b: RankTable, names: tuple[str, str], rankers: Sequence[str], cutoffs: Sequence[int]
) -> Comparison:
    """Return how the metrics of `rankers` differ from run `a` to run `b`, as `compare_groups` does."""
    return compare_groups({names[0]: a}, {names[1]: b}, names, rankers, cutoffs)


def compare_groups(
    a: Runs, b: Runs, names: tuple[str, str], rankers: Sequence[str], cutoffs: Sequence[int]
) -> Comparison:
    """Return how the metrics of `rankers` differ from the runs `a` to the runs `b`, on average over each.

    Raises:
        UserError: the runs are not comparable, or one has no such ranker.

    """
    design = _design(a, b, names)
    groups = {table.task.lists: _groups(table) for table in (*b.values(), *a.values())}  # A's where both have the lists
    labels, values_a = _values(a, rankers, cutoffs)
    _labels, values_b = _values(b, rankers, cutoffs)
    tested, counts = {}, {}
    for group in next(iter(groups.values())):
        if all(group in of_lists and of_lists[group].sum() >= figures.MIN_USERS for of_lists in groups.values()):
            inside_a, inside_b = (
                [each[:, groups[lists][group]] for lists, each in values] for values in (values_a, values_b)
            )
            tested[group] = test_groups(inside_a, inside_b, design)
            counts[group] = int(sum(groups[lists][group].sum() for lists in _lists(a)))
    return Comparison(
        *names,
        runs=(len(a), len(b)),
        lists=len(_lists(a)),
        is_paired=design != "none",
        users=(_num_users(a), _num_users(b)),
        shown=f"NDCG@{cutoffs[0]}",
        differences=list(_differences(tested, counts, labels)),
    )


def test_groups(a: Sequence[np.ndarray], b: Sequence[np.ndarray], design: Design) -> Tested:
    """Test the differences of the figures' means; `a` and `b` have each run's values, (figures, users).

    Single runs are tested for the chance of users alone, as `test` does, and several for that of users and seeds.
    """
    if len(a) == len(b) == 1:
        return test(a[0], b[0], is_paired=design != "none")
    means_a, means_b = (np.stack([of_run.mean(1) for of_run in runs]) for runs in (a, b))  # (runs, figures)
    difference = means_b.mean(0) - means_a.mean(0)
    if design == "lists":
        found = chance.estimate(difference, [], [chance.of_runs(means_b - means_a)])
    else:
        of_a, of_b = np.mean(a, axis=0), np.mean(b, axis=0)  # (figures, users)
        users = [of_b - of_a] if design == "users" else [of_a, of_b]
        found = chance.estimate(
            difference,
            [chance.of_users(values) for values in users],
            [chance.of_runs(means) for means in (means_a, means_b)],
            sum(chance.of_both(np.stack(runs)) for runs in (a, b)),
        )
    return Tested(means_a.mean(0), means_b.mean(0), *found)


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


def _design(a: Runs, b: Runs, names: tuple[str, str]) -> Design:
    """Return what pairs the runs; raise UserError unless they are comparable."""
    (first, table), *others = [*a.items(), *b.items()]
    for other, other_table in others:
        _require_comparable(table.task, other_table.task, (first, other))
    for runs, other_runs, name in ((a, b, names[0]), (b, a, names[1])):
        if len(runs) < chance.MIN_RUNS <= len(other_runs):
            raise UserError(
                f"{name} is one run, which does not show the chance of seeds; name several runs in its place, or "
                "compare it with one run"
            )
    lists_a, lists_b = _lists(a), _lists(b)
    if len(lists_a) == len(lists_b) == 1:
        return "users" if lists_a == lists_b else "none"
    if lists_a == lists_b and len(lists_a) == len(a) == len(b):
        return "lists"
    raise UserError(
        f"{names[0]} and {names[1]} ranked several lists, and not each list in one run of both; name runs of one "
        "split.seed, or runs of the same split.seeds"
    )


def _lists(runs: Runs) -> set[str]:
    return {table.task.lists for table in runs.values()}


def _num_users(runs: Runs) -> int:
    return sum({table.task.lists: len(table.user_ids) for table in runs.values()}.values())


def _values(
    runs: Runs, rankers: Sequence[str], cutoffs: Sequence[int]
) -> tuple[list[Label], list[tuple[str, np.ndarray]]]:
    """Return the figures, and each run's lists and values (figures, users), in the order of the lists."""
    found = [(table.task.lists, figures.of_users(table, run, rankers, cutoffs)) for run, table in runs.items()]
    found.sort(key=itemgetter(0))
    return list(found[0][1]), [(lists, np.stack(list(values.values()))) for lists, values in found]


def _groups(table: RankTable) -> dict[Group, np.ndarray]:
    """Return which users are in each group, (users,) bool: all, then the ranges of the breakdowns."""
    groups = {ALL: np.ones(len(table.user_ids), bool)}
    for by, counts in (("history_length", table.history_lengths), ("popularity", table.popularity)):
        bins = bin_of(counts)
        groups |= {(by, LABELS[number]): bins == number for number in np.unique(bins)}
    return groups


def _differences(
    tested: Mapping[Group, Tested], counts: Mapping[Group, int], labels: Sequence[Label]
) -> Iterator[Difference]:
    """Yield the differences of all figures, group by group, with corrected p."""
    of_groups = [found.p for group, found in tested.items() if group != ALL]
    corrected = [holm(tested[ALL].p), *(holm(np.array(of_groups)) if of_groups else [])]
    for (group, found), p_values in zip(tested.items(), corrected, strict=True):
        columns = (found.a, found.b, found.b - found.a, found.low, found.high, p_values)
        rows = np.stack(columns, axis=1).round(DECIMALS).tolist()
        for label, (of_a, of_b, difference, low, high, p) in zip(labels, rows, strict=True):
            yield Difference(*group, *label, counts[group], of_a, of_b, difference, low, high, p)
