from __future__ import annotations

import numpy as np
import pytest
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer

from compress.exporting.emissions.blocks import (
    BLOCK,
    Blocks,
    dequantize_blocks,
    packed,
    quantize_blocks,
    unpacked,
)

WEIGHTS = np.random.default_rng(0).standard_t(4, size=(24, 96)).astype(np.float32)


def by_hand(blocks: Blocks) -> np.ndarray:
    """What the bytes stand for, weight by weight, as the operator's documentation has it."""
    stored = packed(blocks.integers, blocks.bits)
    found = np.zeros((len(stored), blocks.inputs), np.float32)
    for output in range(len(stored)):
        for i in range(blocks.inputs):
            block, place = divmod(i, BLOCK)
            byte = int(stored[output, block, place * blocks.bits // 8])
            integer = byte if blocks.bits == 8 else (byte >> 4 if place % 2 else byte & 15)
            zero_point = int(blocks.zero_points[output, block])
            found[output, i] = (integer - zero_point) * blocks.scales[output, block]
    return found


def squared_error(found: np.ndarray, weights: np.ndarray = WEIGHTS) -> float:
    return float(np.square(found.astype(np.float64) - weights).sum())


@pytest.mark.parametrize("inputs", [96, 80])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_bytes_stand_for_the_weights(symmetric: bool, bits: int, inputs: int) -> None:
    weights = WEIGHTS[:, :inputs]
    blocks = quantize_blocks(weights, bits, symmetric=symmetric)
    found = by_hand(blocks)
    np.testing.assert_allclose(dequantize_blocks(blocks), found, rtol=1e-6)
    assert np.abs(found - weights).max() <= np.abs(weights).max() / 2 ** (bits - 2)
    assert blocks.has_middle_zero_points == symmetric


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_no_more_is_lost_than_by_the_runtimes_own_quantizer_whose_layout_is_ours(bits: int, symmetric: bool) -> None:
    config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=symmetric, bits=bits)
    stored, scales, zero_points = DefaultWeightOnlyQuantizer(config).qbits_block_quant(np.ascontiguousarray(WEIGHTS.T))
    middle = unpacked(zero_points.reshape(24, -1), bits, 3) if not symmetric else np.full((24, 3), 2 ** (bits - 1))
    theirs = Blocks(unpacked(stored, bits, BLOCK), scales.reshape(24, 3), middle.astype(np.uint8), bits, 96)
    theirs_lost = squared_error(dequantize_blocks(theirs))
    assert theirs_lost < 0.02 * squared_error(np.zeros_like(WEIGHTS))  # read in our layout, their bytes are the weights
    assert squared_error(dequantize_blocks(quantize_blocks(WEIGHTS, bits, symmetric=symmetric))) < theirs_lost


def test_each_bit_halves_the_error() -> None:
    lost = [squared_error(dequantize_blocks(quantize_blocks(WEIGHTS, bits))) for bits in (4, 8)]
    assert 2**3 < np.sqrt(lost[0] / lost[1]) < 2**5


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_of_one_value(bits: int, symmetric: bool) -> None:
    weights = np.repeat(np.array([[0.0], [3.0], [-2e-3], [1e-30]], np.float32), BLOCK, axis=1)
    blocks = quantize_blocks(weights, bits, symmetric=symmetric)
    np.testing.assert_allclose(dequantize_blocks(blocks), weights, rtol=1e-5, atol=0)
    assert (blocks.scales != 0).all()


def test_what_is_packed_comes_out_again() -> None:
    integers = np.random.default_rng(0).integers(0, 16, (5, 7)).astype(np.uint8)
    assert packed(integers, 4).shape == (5, 4)
    np.testing.assert_array_equal(unpacked(packed(integers, 4), 4, 7), integers)
