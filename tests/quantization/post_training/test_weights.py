from __future__ import annotations

import itertools

import numpy as np
import pytest

from compress.quantization.post_training.weights import dequantized, quantize_weight, quantize_weights
from compress.quantization.template import template_of
from tests.quantization.graphs import floats, two_convolutions

WEIGHT = floats(6, 4, 3, 3)


def error(weight: np.ndarray, axis: int, bits: int = 8, *, least_error: bool = False) -> np.ndarray:
    """The squared error of each output channel."""
    found = dequantized(quantize_weight(weight, axis, bits, least_error=least_error), axis)
    result: np.ndarray = np.moveaxis((found - weight) ** 2, axis, 0).reshape(weight.shape[axis], -1).sum(1)
    return result


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("bits", [7, 8])
def test_no_weight_is_off_by_more_than_half_a_step(axis: int, bits: int) -> None:
    found = quantize_weight(WEIGHT, axis, bits)
    top = 2 ** (bits - 1) - 1
    assert found.integers.dtype == np.int8 and found.scale.dtype == np.float32
    rows = np.moveaxis(WEIGHT, axis, 0).reshape(WEIGHT.shape[axis], -1)
    assert found.scale == pytest.approx(np.abs(rows).max(1) / top)
    off = np.moveaxis(np.abs(dequantized(found, axis) - WEIGHT), axis, 0).reshape(rows.shape)
    assert (off <= found.scale[:, None] * 0.5001).all()
    assert np.abs(found.integers).max() == top


def test_the_error_halves_with_each_bit() -> None:
    weight = floats(16, 512)
    errors = [np.sqrt(error(weight, 0, bits).sum()) for bits in (5, 6, 7, 8)]
    assert all(1.8 < coarse / fine < 2.2 for coarse, fine in itertools.pairwise(errors))


def test_least_error_is_never_worse_and_better_where_a_weight_stands_out() -> None:
    weight = np.concatenate([floats(20, 300), np.random.default_rng(1).standard_t(3, (20, 300)).astype(np.float32)])
    plain, least = error(weight, 0, 4), error(weight, 0, 4, least_error=True)
    assert (least <= plain * 1.000001).all()
    assert least[20:].sum() < 0.8 * plain[20:].sum()


def test_least_error_is_that_of_a_search_over_clipping() -> None:
    weight = np.random.default_rng(1).standard_t(3, (1, 2000))
    widest = np.abs(weight).max()
    best = np.inf
    for share in np.linspace(0.5, 1, 200):
        scale = widest * share / 7
        best = min(best, float(((np.clip(np.rint(weight / scale), -7, 7) * scale - weight) ** 2).sum()))
    assert error(weight, 0, 4, least_error=True)[0] <= 1.02 * best


def test_channels_of_zeros_and_of_the_smallest_numbers_stay_what_they_are() -> None:
    weight = WEIGHT.copy()
    weight[2] = 0
    weight[3] = 1e-30
    for least_error in (False, True):
        found = dequantized(quantize_weight(weight, 0, least_error=least_error), 0)
        assert np.isfinite(found).all()
        assert np.abs(found[2:4]).max() < 1e-12


def test_all_layers_are_rounded_on_their_own_axis() -> None:
    found = quantize_weights(template_of(two_convolutions()))
    assert {name: (w.integers.shape, w.scale.shape) for name, w in found.items()} == {
        "c1": ((8, 3, 3, 3), (8,)),
        "c2": ((6, 8, 3, 3), (6,)),
        "y": ((5, 6), (5,)),
    }
