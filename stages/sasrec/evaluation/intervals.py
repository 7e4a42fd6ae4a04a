"""The means of the metrics over the held-out users, and how far chance in who is held out moves them."""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from sasrec.evaluation.metrics import DECIMALS, is_share

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
RESAMPLES = 2000
AT_A_TIME = 50
SEED = 0
Key = TypeVar("Key")


class Estimate(NamedTuple):
    """A metric's mean over the held-out users, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def estimates(values: Mapping[Key, Mapping[str, np.ndarray]]) -> dict[Key, dict[str, Estimate]]:
    """Return the estimate of each metric, by name; `values` has each user's, (users,).

    The interval is Wilson's for a share, which is wider than nothing even if all users agree, and the percentile
    bootstrap's for another metric. Neither need be centred on the mean. Values are rounded as by `metrics.summary`.
    """
    bootstrapped = _bootstrap(np.stack([each for of_key in values.values() for each in of_key.values()]))
    found: dict[Key, dict[str, Estimate]] = {key: {} for key in values}
    for (key, name), bounds in zip(
        ((key, name) for key, of_key in values.items() for name in of_key), bootstrapped.tolist(), strict=True
    ):
        each = values[key][name]
        mean = float(each.mean())
        low, high = wilson(mean, len(each)) if is_share(name) else bounds
        found[key][name] = Estimate(*(round(value, DECIMALS) for value in (mean, low, high)))
    return found


def wilson(share: float, number: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % interval for a `share` of `number` users."""
    weight = Z**2 / number
    centre = (share + weight / 2) / (1 + weight)
    half = (weight * (share * (1 - share) + weight / 4)) ** 0.5 / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)


def _bootstrap(values: np.ndarray) -> np.ndarray:
    """Return the ends of the bootstrap's 95 % interval of each row's mean, (rows, 2); `values` is (rows, users).

    SciPy's gives the same, but its import takes half a second, which each `evaluate` would pay.
    """
    generator, number = np.random.default_rng(SEED), values.shape[1]
    means = []
    for _ in range(RESAMPLES // AT_A_TIME):
        drawn = generator.integers(0, number, (AT_A_TIME, number))
        times = np.stack([np.bincount(users, minlength=number) for users in drawn])  # that each user was drawn
        means.append(values @ times.T / number)  # (rows, AT_A_TIME)
    return np.quantile(np.concatenate(means, axis=1), (0.025, 0.975), axis=1).T
