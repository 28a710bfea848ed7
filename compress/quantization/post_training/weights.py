"""Weights in int8: symmetric, one scale per output channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.exporting.graph import Graph
from compress.quantization.template import QuantizedWeight, Template

Array = NDArray[Any]
SMALLEST_SCALE = 2.0**-40
SHARES = np.linspace(1.0, 0.5, 26)


def per_channel(values: Array, axis: int, count: int) -> Array:
    """A vector of one number per channel, shaped to fit `values` on `axis`."""
    shape = [1] * count
    shape[axis] = -1
    return values.reshape(shape)


def quantize_weight(weight: Array, axis: int, bits: int = 8, *, least_error: bool = False) -> QuantizedWeight:
    """Round to the grid whose last step is the greatest absolute weight of each channel.

    With `least_error` to the grid, among 26 down to half of that, that leaves the least squared error of each channel.
    """
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    top = 2 ** (bits - 1) - 1
    widest = np.maximum(np.abs(rows).max(axis=1), SMALLEST_SCALE * top)
    scale = widest / top
    if least_error:
        errors = [_error(rows, widest * share / top, top) for share in SHARES]
        scale = widest * SHARES[np.argmin(errors, axis=0)] / top
    scale = scale.astype(np.float32)
    steps = np.rint(weight / per_channel(scale, axis, weight.ndim)).clip(-top, top).astype(np.int8)
    return QuantizedWeight(steps, scale)


def _error(rows: Array, scale: Array, top: int) -> Array:
    steps = np.rint(rows / scale[:, None]).clip(-top, top)
    result: Array = ((steps * scale[:, None] - rows) ** 2).sum(axis=1)
    return result


def dequantized(found: QuantizedWeight, axis: int) -> Array:
    """The floats that the integers stand for, float32."""
    result: Array = found.integers.astype(np.float32) * per_channel(found.scale, axis, found.integers.ndim)
    return result


def quantize_weights(template: Template, bits: int = 8, *, least_error: bool = False) -> dict[str, QuantizedWeight]:
    """The weights of all layers, by the tensor that each writes."""
    arrays = Graph(template.proto.graph).arrays
    return {
        output: quantize_weight(arrays[layer.weight], layer.axis, bits, least_error=least_error)
        for output, layer in template.layers.items()
    }
