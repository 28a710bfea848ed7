"""Weights as integers of 4 or 8 bits with a scale for each block of 32 inputs: arithmetic and layout, no graphs.

The layout is that of ONNX Runtime's contributed operator `MatMulNBits` (docs/ContribOperators.md): an output's inputs
lie in blocks one behind the other, the earlier of two 4-bit integers in a byte's lower half, and a weight is
(integer - zero point) * scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compress.exporting.graph import Array

BLOCK = 32
"""Inputs that share a scale."""
SHARES = np.linspace(0.7, 1.0, 7)
"""Parts of a block's range that are tried as the range of its integers: what lies outside of it is clipped."""


@dataclass(frozen=True)
class Blocks:
    """Weights (outputs, `inputs`) as `integers` (outputs, blocks, 32) in uint8, 0 to 2^bits - 1.

    `scales` (outputs, blocks) are float32, `zero_points` (outputs, blocks) uint8. The last block is filled up with zero
    points, which stand for zero.
    """

    integers: Array
    scales: Array
    zero_points: Array
    bits: int
    inputs: int

    @property
    def has_middle_zero_points(self) -> bool:
        """Whether each zero point is the middle of the integers, which the operator takes for granted without any."""
        return bool((self.zero_points == 2 ** (self.bits - 1)).all())


def quantize_blocks(weights: Array, bits: int, *, symmetric: bool = False) -> Blocks:
    """Round weights (outputs, inputs) of float32 block by block, each with the scale of least squared error.

    Of each share of a block's range that is tried, weights are rounded with the scale that it gives; then that scale is
    replaced by the one of least squared error for these integers, sum(w q) / sum(q q). Where `symmetric`, zero is the
    middle integer, and the sign of the scale is such that the weight furthest from zero gets the integer furthest from
    the middle (as in llama.cpp's Q4_0); else zero points are rounded from the least weight.
    """
    outputs, inputs = weights.shape
    padded = np.zeros((outputs, -(-inputs // BLOCK) * BLOCK), np.float32)
    padded[:, :inputs] = weights
    blocks = padded.reshape(outputs, -1, BLOCK)
    found = _least_error(blocks, bits, symmetric)
    integers, scales, zero_points = found
    integers.reshape(outputs, -1)[:, inputs:] = np.repeat(zero_points[:, -1:], integers[0].size - inputs, axis=1)
    return Blocks(integers, scales, zero_points, bits, inputs)


def _least_error(blocks: Array, bits: int, symmetric: bool) -> tuple[Array, Array, Array]:
    """Integers, scales and zero points of blocks (outputs, blocks, 32)."""
    shape = blocks.shape[:2]
    best = np.full(shape, np.inf, np.float32)
    integers = np.zeros(blocks.shape, np.uint8)
    scales, zero_points = np.ones(shape, np.float32), np.zeros(shape, np.uint8)
    steps, zero = _full_range(blocks, bits, symmetric)
    for share in SHARES:
        tried = (steps * np.float32(share))[..., None]
        middle = zero if symmetric else _zero_point(blocks, tried, bits)
        rounded = np.clip(np.rint(blocks / tried) + middle, 0, 2**bits - 1)
        moved = rounded - middle
        power = np.square(moved).sum(-1)
        fitted = np.where(power > 0, (blocks * moved).sum(-1) / np.maximum(power, 1), steps)
        fitted = np.where(fitted == 0, steps, fitted).astype(np.float32)
        error = np.square(blocks - moved * fitted[..., None]).sum(-1)
        better = error < best
        best = np.where(better, error, best)
        scales = np.where(better, fitted, scales)
        zero_points = np.where(better, middle[..., 0], zero_points).astype(np.uint8)
        integers = np.where(better[..., None], rounded, integers).astype(np.uint8)
    return integers, scales, zero_points


def _full_range(blocks: Array, bits: int, symmetric: bool) -> tuple[Array, Array]:
    """The scales (outputs, blocks) at which nothing is clipped, and the middle of the integers.

    A block of zeros has the scale 1.
    """
    middle = np.full((*blocks.shape[:2], 1), 2 ** (bits - 1), np.float32)
    if symmetric:
        furthest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]
        steps = furthest / -(2 ** (bits - 1) - 1)  # the last integer but one: shares of it reach the last
    else:
        low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
        steps = (high - low) / (2**bits - 1)
    tiny = np.abs(steps) < np.finfo(np.float32).tiny
    return np.where(tiny, 1, steps).astype(np.float32), middle


def _zero_point(blocks: Array, scales: Array, bits: int) -> Array:
    """The integers (outputs, blocks, 1) that stand for zero, of ranges that are clipped alike on both sides."""
    low = np.minimum(blocks.min(-1, keepdims=True), 0)
    high = np.maximum(blocks.max(-1, keepdims=True), 0)
    spare = (high - low) - scales * (2**bits - 1)
    found: Array = np.clip(np.rint(-(low + spare / 2) / scales), 0, 2**bits - 1)
    return found


def dequantize_blocks(blocks: Blocks) -> Array:
    """The weights (outputs, inputs), in float32, that integers stand for."""
    steps = blocks.integers.astype(np.float32) - blocks.zero_points[..., None].astype(np.float32)
    found: Array = (steps * blocks.scales[..., None]).reshape(len(steps), -1)[:, : blocks.inputs]
    return found


def packed(integers: Array, bits: int) -> Array:
    """Integers (..., n) as bytes: of 4 bits (..., (n + 1) // 2), the earlier one in the lower half."""
    if bits == 8:
        return integers
    even = np.pad(integers, [(0, 0)] * (integers.ndim - 1) + [(0, integers.shape[-1] % 2)])
    found: Array = even[..., ::2] | (even[..., 1::2] << 4)
    return found


def unpacked(found: Array, bits: int, count: int) -> Array:
    """The inverse of `packed`: the first `count` integers of each row of bytes."""
    if bits == 8:
        return found[..., :count]
    both = np.stack([found & 15, found >> 4], axis=-1)
    return both.reshape(*found.shape[:-1], -1)[..., :count]
