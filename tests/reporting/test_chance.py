"""What users and seeds add to the chance of a mean: by hand, against textbook tests, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from sasrec.reporting import chance, comparison

RUNS_A, RUNS_B = np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5, 0.9, 0.7])


def test_two_runs_for_two_users_by_hand() -> None:
    values = np.array([[[0.0, 1.0]], [[0.5, 1.0]]])  # (runs, figures, users)
    of_users, of_runs = chance.of_users(values.mean(0)), chance.of_runs(values.mean(2))
    both = chance.of_both(values)
    assert [of_users.variance[0], of_runs.variance[0], both[0]] == [9 / 64, 1 / 64, 1 / 64]
    found = chance.estimate(np.array([0.625]), [of_users], [of_runs], both)
    assert found.high == pytest.approx([0.625 + 12.706 * 3 / 8], abs=1e-3)  # t with one degree of freedom


def test_runs_that_treat_all_users_alike_are_compared_as_by_welchs_test() -> None:
    a, b = ([np.full((1, 5), value) for value in runs] for runs in (RUNS_A, RUNS_B))
    expected = stats.ttest_ind(RUNS_B, RUNS_A, equal_var=False)
    found = comparison.test_groups(a, b, "users")
    assert found.p == pytest.approx([expected.pvalue])
    assert [found.low[0], found.high[0]] == pytest.approx([*expected.confidence_interval()])


def test_equal_runs_of_users_who_differ_are_compared_as_by_a_paired_t_test() -> None:
    a, b = np.random.default_rng(0).random((2, 1, 30))
    found = comparison.test_groups([a, a], [b, b, b], "users")
    assert found.p == pytest.approx([stats.ttest_rel(b[0], a[0]).pvalue])


def test_runs_with_lists_of_their_own_are_compared_as_by_a_paired_t_test_of_the_runs() -> None:
    a, b = np.random.default_rng(0).random((2, 4, 1, 20))  # (runs, figures, users) each
    found = comparison.test_groups(list(a), list(b), "lists")
    assert found.p == pytest.approx([stats.ttest_rel(b.mean(2)[:, 0], a.mean(2)[:, 0]).pvalue])


def test_runs_that_agree_in_every_user_do_not_differ_at_all() -> None:
    a = np.random.default_rng(0).random((1, 30))
    found = comparison.test_groups([a, a, a], [a, a], "users")
    assert (found.low, found.high, found.p) == (pytest.approx([0]), pytest.approx([0]), [1])


@pytest.mark.parametrize(("of_seed", "of_both"), [(0.02, 0.1), (0.0, 0.25)])
def test_nineteen_of_twenty_intervals_hold_the_truth_where_seeds_matter_and_where_not(
    of_seed: float, of_both: float
) -> None:
    generator, held = np.random.default_rng(1), []
    for _ in range(2000):
        of_users, gains = generator.normal(0, 0.3, 200), generator.normal(0, 0.1, 200)
        a, b = generator.normal(0, of_seed, (2, 3, 1, 1)) + generator.normal(0, of_both, (2, 3, 1, 200)) + of_users
        found = comparison.test_groups(list(a), list(b + gains), "users")
        held.append(found.low[0] <= 0 <= found.high[0])
    assert 0.94 <= np.mean(held) <= 0.99  # by the users alone, 0.66 where the seeds matter
