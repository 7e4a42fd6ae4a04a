"""How far the choice of users moves a metric: never not at all for a share, and as the bootstrap says for the others."""

import math

import numpy as np
import pytest
from scipy import stats

from sasrec.evaluation import intervals


@pytest.mark.parametrize(("hits", "users"), [(0, 20), (20, 20), (3, 10), (952, 1000)])
def test_a_share_has_wilsons_interval(hits: int, users: int) -> None:
    low, high = stats.binomtest(hits, users).proportion_ci(method="wilson")
    assert intervals.wilson(hits / users, users) == pytest.approx((low, high), abs=1e-12)


def test_no_hit_among_twenty_users_does_not_prove_that_there_is_none() -> None:
    found = intervals.estimates({"sasrec": {"HR@10": np.zeros(20)}})["sasrec"]["HR@10"]
    assert found == (0, 0, pytest.approx(0.1611, abs=1e-4))


def test_another_metric_has_the_bootstraps_interval() -> None:
    values = np.random.default_rng(3).random(500) ** 3
    found = intervals.estimates({"sasrec": {"NDCG@10": values}})["sasrec"]["NDCG@10"]
    low, high = stats.bootstrap((values,), np.mean, method="percentile", rng=0).confidence_interval
    assert found == pytest.approx((values.mean(), low, high), rel=0.01)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * values.std() / math.sqrt(500), rel=0.05)


def test_the_seed_is_fixed_and_what_else_is_summarised_does_not_matter() -> None:
    values = np.random.default_rng(4).random((2, 50))
    alone = intervals.estimates({"b": {"MRR": values[1]}})
    assert intervals.estimates({"a": {"MRR": values[0]}, "b": {"MRR": values[1]}})["b"] == alone["b"]
