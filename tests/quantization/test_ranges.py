from __future__ import annotations

import numpy as np
import pytest

from compress.quantization.fake_quantize import grid
from compress.quantization.ranges import mse, percentile


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


def test_percentile_leaves_out_one_value_in_ten_thousand() -> None:
    values = np.random.default_rng(0).exponential(1, 200_000)
    counts, low, high = histogram(values)
    low_share, high_share = percentile(counts, low, high, None, symmetric=False)
    assert low_share == 1.0
    assert high * high_share == pytest.approx(np.quantile(values, 0.99995), rel=0.02)
