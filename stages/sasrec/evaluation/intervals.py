"""The means of the metrics over the held-out users, and how far chance in who is held out moves them."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from sasrec.evaluation.metrics import DECIMALS, HALF_WIDTH, is_share

Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
RESAMPLES = 2000
AT_A_TIME = 50
SEED = 0
Key = TypeVar("Key")


def summaries(values: Mapping[Key, Mapping[str, np.ndarray]]) -> dict[Key, dict[str, float]]:
    """Return the mean and the 95 % interval's half-width of each metric, by name; `values` has each user's, (users,).

    The interval is Wilson's for a share, which is wider than nothing even if all users agree, and the percentile
    bootstrap's for another metric. Neither need be centred on the mean. Values are rounded as by `metrics.summary`.
    """
    half_widths = _half_widths(np.stack([each for of_key in values.values() for each in of_key.values()]))
    found: dict[Key, dict[str, float]] = {key: {} for key in values}
    for (key, name), bootstrapped in zip(
        ((key, name) for key, of_key in values.items() for name in of_key), half_widths.tolist(), strict=True
    ):
        each = values[key][name]
        half_width = wilson(float(each.mean()), len(each)) if is_share(name) else bootstrapped
        found[key][name] = round(float(each.mean()), DECIMALS)
        found[key][name + HALF_WIDTH] = round(half_width, DECIMALS)
    return found


def wilson(share: float, number: int) -> float:
    """Return the half-width of Wilson's 95 % interval for a `share` of `number` users."""
    return Z * (share * (1 - share) / number + (Z / number / 2) ** 2) ** 0.5 / (1 + Z**2 / number)


def _half_widths(values: np.ndarray) -> np.ndarray:
    """Return the half-width of the bootstrap's 95 % interval of each row's mean, (rows,); `values` is (rows, users)."""
    generator, number = np.random.default_rng(SEED), values.shape[1]
    means = []
    for _ in range(RESAMPLES // AT_A_TIME):
        drawn = generator.integers(0, number, (AT_A_TIME, number))
        times = np.stack([np.bincount(users, minlength=number) for users in drawn])  # that each user was drawn
        means.append(values @ times.T / number)  # (rows, AT_A_TIME)
    low, high = np.quantile(np.concatenate(means, axis=1), (0.025, 0.975), axis=1)
    return (high - low) / 2
