"""MLPerf's early stopping: percentiles of latency that hold at 99 % confidence, from as few calls as that takes.

After MLPerf Inference's rules, "Early stopping", and LoadGen's `early_stopping.cc` and `results.cc` (SingleStream,
tolerance 0). If the q-th percentile were above a bound, each call would be over it with a probability of more than
1 - q; that so few as t of n calls are over it then has a probability below P[Binomial(n, 1 - q) <= t]. Where this is
under 1 - confidence, the percentile is said to be at most the bound. As in LoadGen, t is at least 1.

Calls are taken to be independent, as MLPerf takes them. What changes between processes or drifts is not covered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
CONFIDENCE = 0.99


def smallest_sample(q: float, confidence: float = CONFIDENCE) -> int:
    """The fewest calls from which the q-th percentile (0 to 100, both excluded) can be told: 64 for 90, 662 for 99."""
    low, high = 1, 2
    while not _told(high, q, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _told(middle, q, confidence) else (middle, high)
    return high


def _told(calls: int, q: float, confidence: float) -> bool:
    return calls > 1 and over_allowed(calls, q, confidence) >= 1


def over_allowed(calls: int, q: float, confidence: float = CONFIDENCE) -> int:
    """The most calls of `calls` that may be over a bound which is the q-th percentile at that confidence; 0: too few.

    The largest t with P[Binomial(calls, 1 - q / 100) <= t] < 1 - confidence, from sums of logarithms, so that nothing
    underflows.
    """
    share = 1 - q / 100
    most = int(calls * share) + 1  # the lower 1 % of a binomial distribution ends before its mean
    steps = np.arange(most)
    ratios = np.log((calls - steps) / (steps + 1) * (share / (1 - share)))
    logs = calls * np.log1p(-share) + np.concatenate([[0.0], np.cumsum(ratios)])
    cumulative = np.logaddexp.accumulate(logs)
    return max(0, int((cumulative < np.log(1 - confidence)).sum()) - 1)


def upper_percentile(samples: Samples, q: float, confidence: float = CONFIDENCE) -> float | None:
    """What the q-th percentile of calls like these is at most, at that confidence; None if there are too few.

    The t-th largest of them, t being `over_allowed`. LoadGen calls it the early-stopping percentile estimate.
    """
    over = over_allowed(len(samples), q, confidence) if len(samples) > 1 else 0
    if over < 1:
        return None
    place = len(samples) - over
    return float(np.partition(samples, place)[place])
