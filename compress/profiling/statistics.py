"""Percentiles of latency samples, and intervals that account for calls of one process not being independent.

Samples come in rounds: one fresh process each. Calls of one process share its memory layout and the machine's mood of
the moment, so that an interval from single calls is far too narrow; rounds are the independent unit, and each counts
the same however many calls fitted into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
REPLICATES = 4000
ROUNDING = 1e-9  # sums of weights fall short of what they should be by less
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""Student's t, 97.5 % quantile, for 1 to 30 degrees of freedom."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of two p50s with its 95 % interval."""

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
    """The 95 % interval of the p50 over rounds like these, by block bootstrap: whole rounds are drawn again.

    Few rounds make the percentile bootstrap too narrow, by about sqrt((n-1)/n) and the normal's tails for Student's;
    the levels are widened for that as in Hesterberg 2015, "What teachers should know about the bootstrap", section 4.3.
    One round alone says nothing about the spread between rounds: the interval is then that of its own samples.
    """
    if len(rounds) == 1:
        low, high = np.quantile(rounds[0], [0.025, 0.975])
        return float(low), float(high)
    return _interval(_bootstrapped(rounds, _drawn_counts(len(rounds))), len(rounds))


def percentile_interval(rounds: Sequence[Samples], q: float) -> tuple[float, float]:
    """The 95 % interval of the q-th percentile (0 to 100) over rounds like these, as `p50_interval` makes it.

    Raises:
        ValueError: one round alone says nothing of the spread between rounds.
    """
    if len(rounds) < 2:
        raise ValueError(f"an interval of a percentile needs at least 2 rounds (got {len(rounds)})")
    return _interval(_bootstrapped(rounds, _drawn_counts(len(rounds)), q), len(rounds))


def ratio_interval(first: Sequence[Samples], second: Sequence[Samples]) -> tuple[float, float]:
    """The 95 % interval of p50(first) / p50(second), whose rounds were interleaved: the same are drawn for both.

    What drifts slowly moves both files of a round alike, and so cancels. Raises ValueError if the counts differ or
    are 1.
    """
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"a paired ratio needs as many rounds of both, at least 2 (got {len(first)} and {len(second)})"
        )
    counts = _drawn_counts(len(first))
    return _interval(_bootstrapped(first, counts) / _bootstrapped(second, counts), len(first))


def _drawn_counts(rounds: int) -> NDArray[np.int64]:
    """How often each round is drawn in each replicate: (replicates, rounds), seeded."""
    return np.random.default_rng(0).multinomial(rounds, np.full(rounds, 1 / rounds), size=REPLICATES)


def _bootstrapped(rounds: Sequence[Samples], counts: NDArray[np.int64], q: float = 50.0) -> Samples:
    """The percentile of each replicate: of the sorted samples, the first at which the drawn weight reaches q / 100."""
    values, origin = _pooled(rounds)
    share = np.array([1 / (len(samples) * len(rounds)) for samples in rounds])
    found = np.empty(len(counts))
    for start in range(0, len(counts), 500):  # in parts, so that memory stays small
        weight = (counts[start : start + 500] * share)[:, origin].cumsum(axis=1)
        found[start : start + 500] = values[(weight < q / 100 - ROUNDING).sum(axis=1)]
    return found


def _interval(replicates: Samples, rounds: int) -> tuple[float, float]:
    """The widened percentile interval of bootstrap replicates."""
    t = T_975[rounds - 2] if rounds - 2 < len(T_975) else 1.96 + 2.5 / (rounds - 1)
    tail = _normal_cdf(-t * (rounds / (rounds - 1)) ** 0.5)
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def _normal_cdf(x: float) -> float:
    from math import erfc, sqrt

    return 0.5 * erfc(-x / sqrt(2))
