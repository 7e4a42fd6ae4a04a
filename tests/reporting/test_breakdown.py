"""Metrics by ranges of a count: every user is in one range, and each range is what its users alone give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.evaluation import metrics
from sasrec.interactions import bins
from sasrec.reporting import breakdown


@pytest.mark.parametrize(
    ("count", "label"),
    [(0, "0"), (1, "1"), (2, "2-4"), (4, "2-4"), (5, "5-9"), (9, "5-9"), (10, "10-19"), (499_999, "200000-499999")],
)
def test_a_count_is_in_the_range_that_names_it(count: int, label: str) -> None:
    assert bins.LABELS[bins.bin_of(np.array(count))] == label


@given(st.integers(0, 2**40))
def test_no_count_is_beyond_the_ranges(count: int) -> None:
    first, _, last = bins.LABELS[bins.bin_of(np.array(count))].rstrip("+").partition("-")
    assert int(first) <= count
    assert count <= int(last or first) or count >= 500_000


def test_each_range_has_its_users_count_and_their_metrics_for_every_scorer() -> None:
    counts = np.array([3, 12, 2, 11])
    ranks = {"a": np.array([0, 5, 20, 0]), "b": np.array([20, 20, 20, 20])}
    found = {(label, scorer): rest for label, scorer, *rest in breakdown.rows(counts, ranks, k=10)}
    assert list(found) == [("2-4", "a"), ("2-4", "b"), ("10-19", "a"), ("10-19", "b")]
    assert found["2-4", "a"][:2] == [2, 0.5]  # ranks 0 and 20: one of two is a hit
    assert found["10-19", "a"][0:4:3] == [2, pytest.approx((1 / np.log2(7) + 1) / 2)]  # ranks 5 and 0
    wilson = pytest.approx(0.3288, abs=1e-4)  # of 0 of 2
    assert found["10-19", "b"] == [2, 0.0, wilson, 0.0, 0.0]


def test_the_ranges_weighted_by_their_users_give_the_metric_of_all() -> None:
    rng = np.random.default_rng(0)
    counts, ranks = rng.integers(0, 500, 200), rng.integers(0, 101, 200)
    rows = list(breakdown.rows(counts, {"a": ranks}, k=10))
    assert sum(users for _, _, users, *_ in rows) == 200
    mean = sum(users * hit_rate for _, _, users, hit_rate, *_ in rows) / 200
    assert mean == pytest.approx(metrics.summary(ranks, 10)["HR@10"])


def test_histories_are_counted_up_to_max_len_and_beyond() -> None:
    counts = np.array([1, 20, 49, 50, 50, 51, 99])
    assert list(breakdown.lengths(counts, 50)) == [["1", 1, 0], ["20-49", 2, 0], ["50-99", 2, 2]]
