"""Percentiles of latency samples, and intervals that account for calls of one process not being independent.

Samples come in rounds: one fresh process each. Calls of one process share its memory layout and the machine's mood of
the moment, so that an interval from single calls is far too narrow; rounds are the independent unit, and each counts
the same however many calls fitted into it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
REPLICATES = 4000
LEAST_ROUNDS = 5
"""From which on intervals are known to cover 95 %, by simulation and on recorded rounds; of fewer none is given.

Of four the bootstrap has no 95 % interval: its level, widened for so few, is rarer than a draw of one round only.
"""
ROUNDING = 1e-9  # sums of weights fall short of what they should be by less
UNKNOWN = (0.0, float("inf"))
"""An interval that says nothing."""
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, 97.5 % quantile, for 1 to 30 degrees of freedom."""
T_995 = (63.657, 9.925, 5.841, 4.604, 4.032)
"""The 99.5 % quantile, for 1 to 5."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of two p50s with its 95 % interval: from 0 to infinity where there are too few rounds for one."""

    value: float
    low: float
    high: float


def percentile(rounds: Sequence[Samples], q: float) -> float:
    """The q-th percentile (0 to 100) of all samples, each round weighing the same: their distribution, inverted."""
    values, origin = _pooled(rounds)
    weight = np.array([1 / (len(samples) * len(rounds)) for samples in rounds])[origin].cumsum()
    return float(values[np.searchsorted(weight, q / 100 - ROUNDING)])


def _pooled(rounds: Sequence[Samples]) -> tuple[Samples, NDArray[np.int64]]:
    """All samples, sorted, and the round that each came from."""
    values = np.concatenate(rounds)
    order = np.argsort(values, kind="stable")
    return values[order], np.repeat(np.arange(len(rounds)), [len(samples) for samples in rounds])[order]


def thin(samples: Samples, count: int) -> Samples:
    """At most `count` of the samples, sorted: those in the middle of `count` equal parts of their distribution."""
    ordered = np.sort(samples)
    if len(ordered) <= count:
        return ordered
    middle = (np.arange(count) + 0.5) * len(ordered) / count
    return np.asarray(ordered[middle.astype(int)])


def p50_interval(rounds: Sequence[Samples]) -> tuple[float, float]:
    """The 95 % interval of the p50 over rounds like these: the hull of a bootstrap's and of one from order statistics.

    The block bootstrap draws whole rounds again. Few rounds make its percentile interval too narrow, by about
    sqrt((n-1)/n) and the normal's tails for Student's; the levels are widened for that as in Hesterberg 2015, "What
    teachers should know about the bootstrap", section 4.3. Where one round in twenty is slow by a factor, that is not
    enough (8 recorded rounds covered in 92 of 100 cases, 5 in 86), so that `median_interval` of the rounds' own
    p50s is included. Raises ValueError of one round, which says nothing about the spread between rounds.
    """
    return percentile_interval(rounds, 50)


def percentile_interval(rounds: Sequence[Samples], q: float) -> tuple[float, float]:
    """The 95 % interval of the q-th percentile (0 to 100) over rounds like these, as `p50_interval` makes it.

    Raises:
        ValueError: one round alone says nothing of the spread between rounds.
    """
    if len(rounds) < 2:
        raise ValueError(f"an interval of a percentile needs at least 2 rounds (got {len(rounds)})")
    drawn = _interval(_bootstrapped(rounds, _drawn_counts(len(rounds)), q), len(rounds))
    return _hull(drawn, median_interval(_each(rounds, q)))


def ratio_interval(first: Sequence[Samples], second: Sequence[Samples]) -> tuple[float, float]:
    """The 95 % interval of p50(first) / p50(second), whose rounds were interleaved: the same are drawn for both.

    What drifts slowly moves both files of a round alike, and so cancels. As in `p50_interval`, the interval that order
    statistics give of the rounds' own ratios is included. Raises ValueError if the counts differ or are 1.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"a paired ratio needs as many rounds of both, at least 2 (got {len(first)} and {len(second)})"
        )
    counts = _drawn_counts(len(first))
    drawn = _interval(_bootstrapped(first, counts) / _bootstrapped(second, counts), len(first))
    return _hull(drawn, median_interval(_each(first, 50) / _each(second, 50)))


def median_interval(values: Samples, level: float = 0.97) -> tuple[float, float]:
    """An interval that holds the median of what `values` (n of them, over 0, n > 1) are drawn from, at `level`.

    From 7 values on it is between order statistics and nearly free of assumptions: Hettmansperger and Sheather 1986,
    "Confidence intervals based on interpolated order statistics". Fewer hold the median too seldom between them
    (1 - 2^(1-n)); there Student's interval of the logarithms is included, at 99 %. Both levels are above 95 % because
    the p50 of all calls is not quite the median of the rounds' p50s, and those are not normal: with 95 %, 5 recorded
    rounds covered in 90 of 100 cases, 6 in 92.
    """
    ordered, n = np.sort(values), len(values)

    def held(k: int) -> float:  # how often the k-th value and the k-th from the end hold the median between them
        return 1 - sum(math.comb(n, i) for i in range(k)) / 2.0 ** (n - 1)

    if held(1) < level:
        logs = np.log(ordered)
        half = T_995[n - 2] * float(logs.std(ddof=1)) / n**0.5
        middle = float(logs.mean())
        return _hull((float(ordered[0]), float(ordered[-1])), (math.exp(middle - half), math.exp(middle + half)))
    k = max(k for k in range(1, (n + 1) // 2) if held(k) >= level)
    share = (held(k) - level) / (held(k) - held(k + 1))
    weight = (n - k) * share / (k + (n - 2 * k) * share)
    low = (1 - weight) * ordered[k - 1] + weight * ordered[k]
    high = (1 - weight) * ordered[n - k] + weight * ordered[n - k - 1]
    return float(low), float(high)


def _each(rounds: Sequence[Samples], q: float) -> Samples:
    return np.array([percentile([samples], q) for samples in rounds])


def _hull(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return min(first[0], second[0]), max(first[1], second[1])


def _drawn_counts(rounds: int) -> NDArray[np.int64]:
    """How often each round is drawn in each replicate: (replicates, rounds), seeded."""
    return np.random.default_rng(0).multinomial(rounds, np.full(rounds, 1 / rounds), size=REPLICATES)


def _bootstrapped(rounds: Sequence[Samples], counts: NDArray[np.int64], q: float = 50) -> Samples:
    """The q-th percentile of each replicate: of the sorted samples, the first at which the drawn weight reaches q.

    Found by bisection for all replicates at once.
    """
    values, origin = _pooled(rounds)
    mine = origin[:, None] == np.arange(len(rounds))
    reached = mine.cumsum(axis=0) / mine.sum(axis=0) / len(rounds)  # (samples, rounds): the weight of each round so far
    first, last = np.zeros(len(counts), dtype=int), np.full(len(counts), len(values) - 1)
    while (first < last).any():
        middle = (first + last) // 2
        enough = np.einsum("cr,cr->c", counts, reached[middle]) >= q / 100 - ROUNDING
        first, last = np.where(enough, first, np.minimum(middle + 1, last)), np.where(enough, middle, last)
    return values[first]


def _interval(replicates: Samples, rounds: int) -> tuple[float, float]:
    """The widened percentile interval of bootstrap replicates."""
    t = T_975[rounds - 2] if rounds - 2 < len(T_975) else 1.96 + 2.5 / (rounds - 1)
    tail = _normal_cdf(-t * (rounds / (rounds - 1)) ** 0.5)
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def _normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
