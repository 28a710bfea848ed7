from __future__ import annotations

import numpy as np
import pytest

from compress.quantization.fake_quantize import grid
from compress.quantization.ranges import CHOICES, entropy, mse, percentile


def histogram(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return np.histogram(values, 2048, (low, high))[0].astype(float), low, high


def squared_error(values: np.ndarray, low: float, high: float) -> float:
    scale, zero_point = grid(low, high, None, symmetric=False)
    steps = np.clip(np.round(values / scale), -128 - zero_point, 127 - zero_point)
    return float(np.mean((steps * scale - values) ** 2))


@pytest.mark.parametrize("outlier", [0.0, 20.0])
def test_mse_finds_what_a_search_over_the_values_themselves_finds(outlier: float) -> None:
    values = np.random.default_rng(0).normal(0, 1, 20000)
    values[:3] += outlier
    counts, low, high = histogram(values)
    low_share, high_share = mse(counts, low, high, None, symmetric=False)
    shares = np.linspace(0.1, 1, 40)
    best = min(squared_error(values, low * a, high * b) for a in shares for b in shares)
    assert squared_error(values, low * low_share, high * high_share) <= 1.1 * best


@pytest.mark.parametrize(("symmetric", "quantile"), [(False, 0.99995), (True, 0.999995)])
def test_percentile_leaves_out_one_value_in_ten_thousand_or_ten_times_less(symmetric: bool, quantile: float) -> None:
    values = np.random.default_rng(0).exponential(1, 2_000_000)
    counts, low, high = histogram(values)
    low_share, high_share = percentile(counts, low, high, None, symmetric=symmetric)
    assert low_share == 1.0
    assert high * high_share == pytest.approx(np.quantile(values, quantile), rel=0.02)


@pytest.mark.parametrize("symmetric", [True, False])
def test_entropy_keeps_all_of_a_uniform_distribution(symmetric: bool) -> None:
    values = np.random.default_rng(0).uniform(-1 if symmetric else 0, 1, 200_000)
    counts, low, high = histogram(values)
    assert entropy(counts, low, high, None, symmetric)[1] > 0.95


@pytest.mark.parametrize("symmetric", [True, False])
def test_entropy_cuts_a_far_outlier(symmetric: bool) -> None:
    values = np.random.default_rng(0).normal(0, 1, 200_000)
    values[0] = 12.0
    counts, low, high = histogram(values)
    low_share, high_share = entropy(counts, low, high, None, symmetric)
    scale, zero_point = grid(low * low_share, high * high_share, None, symmetric)
    lowest, highest = (-128 - zero_point) * scale, (127 - zero_point) * scale
    assert highest < 6
    assert np.mean((values < lowest) | (values > highest)) < 0.01


def test_every_choice_copes_with_nothing_but_zeros() -> None:
    counts = np.zeros(2048)
    counts[0] = 100
    for choose in CHOICES.values():
        assert all(0 < share <= 1 for share in choose(counts, 0.0, 1.0, None, False))
