from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from compress.profiling.statistics import (
    T_975,
    T_995,
    Samples,
    median_interval,
    p50_interval,
    percentile,
    percentile_interval,
    ratio_interval,
    thin,
)

BETWEEN, DRIFT, CALLS = 0.03, 0.1, 40


def process(generator: np.random.Generator, level: float) -> Samples:
    """The calls of one process: autocorrelated (0.9 from call to call), skewed, with 3 % of spikes."""
    noise = generator.standard_normal(CALLS)
    correlated = np.empty(CALLS)
    correlated[0] = noise[0]
    for index in range(1, CALLS):
        correlated[index] = 0.9 * correlated[index - 1] + (1 - 0.9**2) ** 0.5 * noise[index]
    spikes = (generator.random(CALLS) < 0.03) * generator.exponential(1.0, CALLS)
    return np.asarray(level * np.exp(0.05 * correlated) * (1 + spikes))


def session(generator: np.random.Generator, rounds: int, ratio: float) -> tuple[list[Samples], list[Samples], Samples]:
    """Interleaved rounds of two files on a machine that drifts as a random walk; each process has its own level."""
    walk = np.cumsum(generator.standard_normal(2 * rounds)) * DRIFT / np.sqrt(2 * rounds)
    levels = np.exp(walk + BETWEEN * generator.standard_normal(2 * rounds)) * np.tile([1.0, ratio], rounds)
    calls = [process(generator, level) for level in levels]
    return calls[0::2], calls[1::2], walk


def share_of_hits(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


@pytest.mark.parametrize("rounds", [5, 8, 12])
def test_intervals_of_ratios_cover_though_calls_are_correlated_and_the_machine_drifts(rounds: int) -> None:
    generator = np.random.default_rng(7)
    hits = []
    for _ in range(200):
        first, second, _walk = session(generator, rounds, ratio=1.3)
        low, high = ratio_interval([calls[::2] for calls in second], [calls[::2] for calls in first])
        hits.append(low <= 1.3 <= high)
    assert share_of_hits(hits) >= 0.93


@pytest.mark.parametrize("rounds", [5, 8, 12])
def test_intervals_cover_on_recorded_rounds_of_a_busy_machine(rounds: int) -> None:
    """Rounds of two networks, interleaved (`benchmarks/traces.py`), drawn again: what is true of all of them is known.

    A round is a piece of one process's calls in their order, at a random start.
    """
    recorded = np.load(Path(__file__).parent / "traces.npz")
    small, large = (np.asarray(recorded[name], dtype=np.float64) for name in ("small", "large"))
    true = [percentile(list(network), 50) for network in (small, large)]
    generator = np.random.default_rng(3)
    hits: list[list[bool]] = [[], [], []]
    for _ in range(200):
        chosen, start = generator.integers(0, len(small), rounds), generator.integers(0, 64 - 24, rounds)
        first, second = (
            [network[r, s : s + 24] for r, s in zip(chosen, start, strict=True)] for network in (small, large)
        )
        ends = [p50_interval(first), p50_interval(second), ratio_interval(second, first)]
        for found, truth, (low, high) in zip(hits, [*true, true[1] / true[0]], ends, strict=True):
            found.append(low <= truth <= high)
    assert min(map(share_of_hits, hits)) >= 0.93, list(map(share_of_hits, hits))


@pytest.mark.parametrize("count", [6, 7, 8, 9, 12, 20])
def test_intervals_from_order_statistics_are_as_those_of_hettmansperger_and_sheather(count: int) -> None:
    """Their claim: near the level for the median of symmetric distributions of light and of heavy tails."""
    generator = np.random.default_rng(0)
    for draws in (generator.standard_normal((3000, count)), generator.standard_t(2, (3000, count))):
        ends = [median_interval(np.exp(values), 0.95) for values in draws]
        assert share_of_hits([low <= 1 <= high for low, high in ends]) == pytest.approx(0.95, abs=0.012)


def test_an_interval_from_order_statistics_is_between_the_right_ones() -> None:
    """Of 8 values the 1st and the 8th hold the median in 99.2 of 100 cases, the 2nd and the 7th in 93.0."""
    from scipy.stats import binom

    values = np.arange(1.0, 9.0)
    outer, inner = (1 - 2 * binom.cdf(k - 1, 8, 0.5) for k in (1, 2))
    assert median_interval(values, outer) == pytest.approx((1, 8))
    assert median_interval(values, inner) == pytest.approx((2, 7))
    low, high = median_interval(values, 0.95)
    assert 1 < low < 2 and 7 < high < 8 and low - 1 == pytest.approx(8 - high)


def test_few_values_have_students_interval_at_99_percent() -> None:
    from scipy.stats import t

    logs = np.array([0.1, 0.12, 0.09, 0.11])
    expected = t.interval(0.99, 3, loc=logs.mean(), scale=logs.std(ddof=1) / 2)
    assert np.log(median_interval(np.exp(logs))) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("rounds", [5, 8, 12])
def test_intervals_of_p50_cover_where_an_interval_from_single_calls_does_not(rounds: int) -> None:
    generator = np.random.default_rng(1)
    usual = float(np.median([process(generator, np.exp(BETWEEN * generator.standard_normal())) for _ in range(3000)]))
    hits, naive = [], []
    for _ in range(200):
        found, _second, walk = session(generator, rounds, ratio=1.0)
        truth = usual * float(np.exp(np.median(walk)))
        low, high = p50_interval([calls[::2] for calls in found])
        hits.append(low <= truth <= high)
        ordered = np.sort(np.concatenate(found))
        half = 0.98 * len(ordered) ** 0.5  # 1.96 standard deviations of a binomial count
        naive.append(bool(ordered[int(len(ordered) / 2 - half)] <= truth <= ordered[int(len(ordered) / 2 + half)]))
    assert share_of_hits(hits) >= 0.93
    assert share_of_hits(naive) < 0.6


def test_intervals_narrow_with_more_rounds_and_hold_the_p50() -> None:
    widths = []
    for rounds in (4, 32):
        first, _second, _walk = session(np.random.default_rng(0), rounds, ratio=1.0)
        flat = [samples / np.median(samples) * np.exp(BETWEEN * np.sin(i * 2.4)) for i, samples in enumerate(first)]
        low, high = p50_interval(flat)
        assert low <= percentile(flat, 50) <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 1.5


@pytest.mark.parametrize("q", [50.0, 90.0, 99.0])
def test_percentiles_of_equal_rounds_are_numpys(q: float) -> None:
    generator = np.random.default_rng(0)
    rounds = [generator.gamma(3.0, size=400) for _ in range(5)]
    expected = np.percentile(np.concatenate(rounds), q, method="inverted_cdf")
    assert percentile(rounds, q) == pytest.approx(expected, rel=1e-12)


def test_each_round_weighs_the_same_however_many_calls_it_had() -> None:
    few, many = np.full(10, 1.0), np.full(1000, 2.0)
    assert percentile([few, few, many], 50) == 1.0
    assert percentile([few, many, many], 50) == 2.0


def test_thinning_keeps_the_distribution() -> None:
    samples = np.random.default_rng(0).gamma(3.0, size=20_000)
    kept = thin(samples, 200)
    assert len(kept) == 200
    assert np.isin(kept, samples).all()
    for q in (5, 25, 50, 75, 95):
        assert np.percentile(samples, q - 0.6) < np.percentile(kept, q) < np.percentile(samples, q + 0.6)
    np.testing.assert_array_equal(thin(np.array([3.0, 1.0, 2.0]), 200), [1.0, 2.0, 3.0])


def test_p50_of_a_bootstrap_replicate_is_the_percentile_of_the_drawn_rounds() -> None:
    from compress.profiling.statistics import _bootstrapped

    generator = np.random.default_rng(3)
    rounds = [generator.gamma(3.0, size=size) for size in (5, 17, 9)]
    counts: NDArray[np.int64] = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1], [1, 0, 2]])
    drawn = [[samples for samples, times in zip(rounds, row, strict=True) for _ in range(times)] for row in counts]
    np.testing.assert_array_equal(_bootstrapped(rounds, counts), [percentile(some, 50) for some in drawn])


def test_one_round_gives_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 rounds"):
        p50_interval([np.linspace(1.0, 2.0, 101)])


def test_ratios_need_paired_rounds() -> None:
    samples = np.ones(3)
    with pytest.raises(ValueError, match="as many rounds of both"):
        ratio_interval([samples, samples], [samples])
    with pytest.raises(ValueError, match="at least 2"):
        ratio_interval([samples], [samples])


def test_the_table_of_students_t_is_right() -> None:
    from scipy.stats import t

    np.testing.assert_allclose(T_975, t.ppf(0.975, np.arange(1, len(T_975) + 1)), atol=6e-4)
    np.testing.assert_allclose(T_995, t.ppf(0.995, np.arange(1, len(T_995) + 1)), atol=6e-4)


def test_intervals_are_the_same_each_time() -> None:
    first, second, _walk = session(np.random.default_rng(0), 6, ratio=1.1)
    assert p50_interval(first) == p50_interval(first)
    assert ratio_interval(first, second) == ratio_interval(first, second)


def test_a_p90s_interval_covers_as_it_says() -> None:
    """Rounds that differ by 2 %, calls with an exponential tail: the p90 of all such calls is known by inversion."""
    chance = np.random.default_rng(5)
    many = 1 + np.abs(chance.normal(0, 0.02, 400_000)) + chance.exponential(0.05, 400_000)
    truth = float(np.quantile(many, 0.9))
    covered = 0
    for _ in range(200):
        base = 1 + np.abs(chance.normal(0, 0.02, 10))
        rounds = [one + chance.exponential(0.05, 60) for one in base]
        low, high = percentile_interval(rounds, 90)
        covered += low <= truth <= high
    assert covered >= 90
    with pytest.raises(ValueError, match="at least 2 rounds"):
        percentile_interval([np.ones(9)], 90)
