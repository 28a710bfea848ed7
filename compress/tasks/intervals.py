"""95 % intervals for metrics over a sample of examples."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.random_bits import key_of, random_integers

Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


def wilson(right: int, count: int) -> tuple[float, float]:
    """Interval for a share of `right` of `count` (Wilson 1927; Brown, Cai and DasGupta 2001, equation 4)."""
    if count == 0:
        return 0.0, 1.0
    share = right / count
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.int64]], float], count: int, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap (Efron 1979): the middle 95 % of `statistic` over resampled examples.

    Args:
        statistic: of the indices of `count` examples, drawn with replacement.
        count: how many examples there are.
        draws: how many resamples.
        seed: the interval is a pure function of it and the examples.
    """
    places = np.arange(count)
    values = [statistic(random_integers(key_of(seed, draw), places, count)) for draw in range(draws)]
    low, high = np.percentile(np.asarray(values), [2.5, 97.5])
    return float(low), float(high)


def bootstrap_mean(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Interval for the mean of one value an example."""
    return bootstrap(lambda indices: float(values[indices].mean()), len(values))
