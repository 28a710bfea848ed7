import numpy as np
import pytest
from scipy.special import betainc
from scipy.stats import binom

from compress.profiling.early_stopping import over_allowed, smallest_sample, upper_percentile


def loadgen_under(over: int, q: float, confidence: float) -> int:
    """LoadGen's find_min_passing: the least h with BetaRegularized[q, h, over + 1] < 1 - confidence, out of all.

    (`early_stopping.cc`, equation in the comment of `odds`; the regularised incomplete beta function is SciPy's.)
    """
    under = np.arange(1, 20_000)
    return int(under[betainc(under, over + 1, q / 100) < 1 - confidence][0])


def loadgen_over(calls: int, q: float) -> int:
    """LoadGen's loop over t in `results.cc`: the last t with enough calls under."""
    over = 0
    while calls >= loadgen_under(over + 1, q, 0.99) + over + 1:
        over += 1
    return over


def test_the_smallest_samples_are_mlperfs() -> None:
    assert smallest_sample(90) == 64
    assert smallest_sample(99) == 662


@pytest.mark.parametrize("q", [50.0, 90.0, 95.0, 97.0, 99.0, 99.9])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_the_smallest_samples_are_those_of_the_incomplete_beta_function(q: float, confidence: float) -> None:
    assert smallest_sample(q, confidence) == loadgen_under(1, q, confidence) + 1


@pytest.mark.parametrize("calls", [2, 63, 64, 65, 100, 661, 662, 1000, 2500])
@pytest.mark.parametrize("q", [90.0, 99.0])
def test_as_many_calls_may_be_over_as_loadgen_finds(calls: int, q: float) -> None:
    assert over_allowed(calls, q) == loadgen_over(calls, q)


@pytest.mark.parametrize("calls", [10_000, 1_000_000])
@pytest.mark.parametrize("q", [90.0, 99.0])
def test_many_calls_neither_underflow_nor_lose_digits(calls: int, q: float) -> None:
    over = over_allowed(calls, q)
    assert binom.cdf(over, calls, 1 - q / 100) < 0.01 <= binom.cdf(over + 1, calls, 1 - q / 100)


def test_the_estimate_is_the_call_at_that_place_from_the_top() -> None:
    samples = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    over = over_allowed(1000, 90)
    assert upper_percentile(samples, 90) == 1000 - over + 1
    assert upper_percentile(samples[:63], 90) is None
    assert upper_percentile(np.ones(662), 99) == 1.0
    assert upper_percentile(np.ones(661), 99) is None
    assert upper_percentile(np.ones(1), 90) is None


@pytest.mark.parametrize(("calls", "q"), [(64, 90.0), (150, 90.0), (662, 99.0), (1000, 99.0)])
def test_the_estimate_is_below_the_percentile_once_in_a_hundred_times_at_most(calls: int, q: float) -> None:
    generator = np.random.default_rng(0)
    repetitions = 2000
    truth = float(np.quantile(generator.gamma(3.0, size=1_000_000), q / 100))
    below = sum((upper_percentile(generator.gamma(3.0, size=calls), q) or 0.0) < truth for _ in range(repetitions))
    assert below <= binom.ppf(0.999, repetitions, 0.01)
