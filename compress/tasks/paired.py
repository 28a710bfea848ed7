"""95 % intervals for what is lost between two models that answered the same examples: paired, and so narrow."""

from __future__ import annotations

from collections.abc import Callable
from math import comb, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.tasks.intervals import bootstrap, wilson

Array = npt.NDArray[Any]
DRAWS = 200
"""Resamples where the difference is no difference of shares."""


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Interval for a difference of two shares of the same examples: that which the first has right less the second's.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10: Wilson's intervals of both shares, put together with the correlation of the pairs.

    Args:
        both: how many examples both models have right.
        only_first: how many only the first has right.
        only_second: how many only the second has right.
        neither: how many none has right.

    Raises:
        ValueError: there are no examples.
    """
    count = both + only_first + only_second + neither
    if count == 0:
        raise ValueError("a difference of shares needs examples")
    first, second = (both + only_first) / count, (both + only_second) / count
    (first_low, first_high), (second_low, second_high) = (
        wilson(right, count) for right in (both + only_first, both + only_second)
    )
    correlation = _correlation(both, only_first, only_second, neither)

    def reach(one: float, other: float) -> float:
        return sqrt(max(one * one - 2 * correlation * one * other + other * other, 0.0))

    difference = (only_first - only_second) / count
    return (
        max(-1.0, difference - reach(first - first_low, second_high - second)),
        min(1.0, difference + reach(second - second_low, first_high - first)),
    )


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Phi of the fourfold table, its positive values corrected for continuity (Newcombe 1998); 0 without variation."""
    sums = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if sums == 0:
        return 0.0
    product = both * neither - only_first * only_second
    count = both + only_first + only_second + neither
    if product > 0:
        product = max(product - count / 2, 0.0)  # type: ignore[assignment]
    return float(product / sqrt(sums))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p value of "both are right equally often": McNemar's exact test (McNemar 1947), a binomial one."""
    changed = only_first + only_second
    if changed == 0:
        return 1.0
    tail: int = sum(comb(changed, one) for one in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**changed))


def paired_bootstrap(
    metric: Callable[[Array, Array], float], first: Array, second: Array, targets: Array
) -> tuple[float, float]:
    """Interval for metric(first) - metric(second): examples are drawn anew, the same ones for both (Efron 1979).

    Args:
        metric: of answers and targets.
        first: answers, an example a row.
        second: answers to the same examples.
        targets: what is right.
    """

    def statistic(indices: npt.NDArray[np.int64]) -> float:
        chosen = targets[indices]
        return metric(first[indices], chosen) - metric(second[indices], chosen)

    return bootstrap(statistic, len(targets), draws=DRAWS)
