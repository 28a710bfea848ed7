from __future__ import annotations

import numpy as np
import pytest

from compress.quantization.observers import Extremes, Histogram, spacing


def test_of_a_large_tensor_every_so_many_values_are_counted() -> None:
    histogram = Histogram(0.0, 1.0)
    histogram(np.linspace(0, 1, 2**20, dtype=np.float32))
    assert histogram.counts.sum() == 2**17
    assert np.ptp(histogram.counts) <= 2


def test_a_constant_tensor_has_a_histogram() -> None:
    histogram = Histogram(0.0, 0.0)
    histogram(np.zeros(10, np.float32))
    assert histogram.counts[0] == 10


@pytest.mark.parametrize("size", [0, 1, 2**17, 2**17 + 1, 3 * 2**17, 10**6])
def test_no_more_values_are_counted_than_a_batch_may_add(size: int) -> None:
    counted = len(range(size)[:: spacing(size)])
    assert counted <= 2**17
    assert counted == size or counted > 2**16


def test_extremes_hold_zero_and_every_batch() -> None:
    extremes = Extremes()
    assert not extremes.is_finite
    extremes(np.array([2.0, 5.0]))
    extremes.add(1.0, 3.0)
    assert (extremes.lows, extremes.highs, extremes.range) == ([2.0, 1.0], [5.0, 3.0], (0.0, 5.0))
    assert extremes.is_finite
    extremes(np.array([np.nan]))
    assert not extremes.is_finite


def test_a_histogram_counts_what_numpy_counts_and_what_lies_at_its_ends() -> None:
    values = np.random.default_rng(0).normal(0, 1, 50_000).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    histogram = Histogram(low, high)
    for part in np.split(values.reshape(100, 500), 5):
        histogram(part)
    expected, _ = np.histogram(values.astype(np.float64), 2048, (low, high))
    assert np.abs(histogram.counts - expected).sum() <= 2  # a value on the edge of two bins
    assert histogram.counts[-1] >= 1
