"""Says how far the chance of users and of seeds moves means that were taken over both.

The model is that of two crossed random effects. The value of a user in a run is a mean, plus what the user, the run's
seed, and both together add to it; users and runs are independent draws.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # of the tests, and what the intervals leave out
MIN_RUNS = 2  # for an estimate of what they differ by
EXACT = 12  # decimals: sums of equal values differ in their last bits


class Part(NamedTuple):
    """What one source of chance adds to the variance of a mean, as estimated from a sample."""

    variance: np.ndarray  # (figures,) float64
    freedom: int  # degrees of it


class Estimate(NamedTuple):
    """The 95 % intervals of some means, and p of each being 0; each (figures,) float64."""

    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def of_users(values: np.ndarray) -> Part:
    """Return the part of the users in the mean of `values` (figures, users), which are means over runs."""
    number = values.shape[1]
    return Part(values.round(EXACT).var(1, ddof=1) / number, number - 1)


def of_runs(means: np.ndarray) -> Part:
    """Return the part of the runs in the mean of `means` (runs, figures), which are means over users."""
    number = len(means)
    return Part(means.round(EXACT).var(0, ddof=1) / number, number - 1)


def of_both(values: np.ndarray) -> np.ndarray:
    """Return the variance, (figures,), that users and runs together add to the mean of `values` (runs, figures, users).

    It is in the part of the users and also in that of the runs.
    """
    runs, _figures, users = values.shape
    residuals = values - values.mean(0) - values.mean(2, keepdims=True) + values.mean((0, 2))[:, None]
    return (residuals**2).sum((0, 2)) / ((runs - 1) * (users - 1)) / (runs * users)


def estimate(
    means: np.ndarray, users: Sequence[Part], runs: Sequence[Part], both: np.ndarray | float = 0.0
) -> Estimate:
    """Return the intervals of `means` (figures,) by Student's t; `both` is what `users` and `runs` have in common.

    The variance is the sum of the parts, and its degrees of freedom are Satterthwaite's: at least the fewest of a part,
    which his formula gives for sums, but not for what `both` is taken from.
    """
    of_users_alone = sum((part.variance for part in users), np.zeros(len(means)))
    variance = np.maximum(sum((part.variance for part in runs), of_users_alone) - both, of_users_alone)
    terms = sum((part.variance**2 / part.freedom for part in (*users, *runs)), np.zeros(len(means)))
    varies = variance > 0
    fewest = min(part.freedom for part in (*users, *runs))
    freedom = np.maximum(np.divide(variance**2, terms, out=np.ones(len(means)), where=varies), fewest)
    errors = np.sqrt(variance)
    half_widths = stats.t.ppf(1 - LEVEL / 2, freedom) * errors
    distances = np.divide(np.abs(means), errors, out=np.zeros(len(means)), where=varies)
    p = np.where(varies, 2 * stats.t.sf(distances, freedom), means.round(EXACT) == 0)
    return Estimate(means - half_widths, means + half_widths, p)
