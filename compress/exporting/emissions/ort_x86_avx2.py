"""For ONNX Runtime on x86 processors without VNNI: uint8 activations, weights of 7 bits.

There two products of uint8 and int8 are added in 16 bits, with saturation (`vpmaddubsw`): 2 * 255 * 64 = 32640 fits,
2 * 255 * 127 does not.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from compress.errors import StageError
from compress.exporting.emissions import ort_x86
from compress.exporting.graph import Graph

LOWEST, HIGHEST = -64, 63


def emit(canonical: ModelProto) -> ModelProto:
    """The graph to deploy, of the same numbers as the canonical one.

    Raises:
        StageError: weights use more than 7 bits.
    """
    graph = Graph(canonical.graph)
    for node in graph.nodes:
        weights = graph.arrays.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if weights is not None and weights.dtype == np.int8 and not _fits(weights):
            raise StageError(
                f"export: the weights of {node.name.removesuffix('.dequantize')} use more than 7 bits, with which "
                "processors without VNNI give wrong sums: set `weight_bits: 7` on the quantize stage"
            )
    return ort_x86.emit(canonical)


def _fits(weights: np.ndarray) -> bool:
    return bool(weights.min() >= LOWEST and weights.max() <= HIGHEST)
