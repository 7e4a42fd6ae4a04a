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


def test_each_range_has_its_users_count_and_their_metrics_for_every_ranker() -> None:
    counts = np.array([3, 12, 2, 11])
    ranks = {"a": np.array([0, 5, 20, 0]), "b": np.array([20, 20, 20, 20])}
    header, rows = breakdown.by("popularity", counts, ranks, k=10)
    assert header == ["popularity", "ranker", "users", "metric", "value", "low", "high"]
    found = {(label, ranker, name): [users, *rest] for label, ranker, users, name, *rest in rows}
    assert list(found)[:3] == [("2-4", "a", "HR@10"), ("2-4", "a", "NDCG@10"), ("2-4", "b", "HR@10")]
    assert found["2-4", "a", "HR@10"][:2] == [2, 0.5]  # ranks 0 and 20: one of two is a hit
    assert found["10-19", "a", "NDCG@10"][:2] == [2, pytest.approx((1 / np.log2(7) + 1) / 2)]  # ranks 5 and 0
    assert found["10-19", "b", "HR@10"] == [2, 0, 0, pytest.approx(0.6576, abs=1e-4)]  # Wilson's of 0 of 2


def test_the_ranges_weighted_by_their_users_give_the_metric_of_all() -> None:
    rng = np.random.default_rng(0)
    counts, ranks = rng.integers(0, 500, 200), rng.integers(0, 101, 200)
    _header, rows = breakdown.by("popularity", counts, {"a": ranks}, k=10)
    hit_rates = [(users, value) for _, _, users, name, value, *_ in rows if name == "HR@10"]
    assert sum(users for users, _ in hit_rates) == 200
    mean = sum(users * value for users, value in hit_rates) / 200
    assert mean == pytest.approx(metrics.summary(ranks, 10)["HR@10"])


def test_histories_are_counted_up_to_max_len_and_beyond() -> None:
    counts = np.array([1, 20, 49, 50, 50, 51, 99])
    header, rows = breakdown.lengths(counts, 50)
    assert header == ["books", "up_to_max_len", "beyond_max_len"]
    assert list(rows) == [["1", 1, 0], ["20-49", 2, 0], ["50-99", 2, 2]]


def test_the_histogram_has_a_row_for_each_ranker_and_rank_also_where_no_user_has_it() -> None:
    header, rows = breakdown.histogram({"a": np.array([0, 2, 2]), "b": np.array([1, 1, 1])}, num_ranks=3)
    assert header == ["ranker", "rank", "users"]
    assert list(rows) == [["a", 1, 1], ["a", 2, 0], ["a", 3, 2], ["b", 1, 0], ["b", 2, 3], ["b", 3, 0]]
