"""Tensors that are never negative, on a grid without zero points: the negative half of it is used for large values.

A network trained on the symmetric grid (zero point 0) has after each relu a tensor that uses half of the grid, which
ONNX Runtime does not fold the relu into. With zero point -128 (uint8: 0) and the same scale the integers stand for the
same numbers, up to twice as large ones instead of negative ones, and the relu folds away.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from compress.exporting.graph import Graph

KEEPS = frozenset(
    {
        "AveragePool",
        "Concat",
        "DequantizeLinear",
        "Flatten",
        "Gather",
        "GlobalAveragePool",
        "Identity",
        "MaxPool",
        "Pad",
    }
    | {"QuantizeLinear", "Reshape", "Resize", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that write no value beyond those that they read, but for the 0 of a padding."""
BELOW_ONE = frozenset({"HardSigmoid", "Sigmoid", "Softmax"})
LOWEST, STEPS, POSITIVE_STEPS = -128, 255, 127


def use_whole_range(graph: Graph) -> None:
    """Give tensors that are never negative, and whose zero point is 0, the zero point -128.

    The scale stays, so that only values are other numbers that were cut off at 127 steps. Behind a clip or a sigmoid,
    which the file must not exceed, 255 steps reach from 0 to the bound: half a step off at most.
    """
    tops = greatest_values(graph)
    readers = graph.readers()
    for node in [node for node in graph.nodes if node.op_type == "QuantizeLinear"]:
        top = tops.get(node.input[0])
        zero_point = graph.arrays.get(node.input[2])
        if top is None or zero_point is None or zero_point.dtype != np.int8 or zero_point.any() or zero_point.ndim:
            continue
        scale = float(graph.arrays[node.input[1]].item())
        if math.isfinite(top):
            scale = float(_float32_below(min(top, scale * POSITIVE_STEPS) / STEPS))
        names = [
            graph.add_array(f"{node.input[1]}_one_sided", np.asarray(scale, np.float32)),
            graph.add_array(f"{node.input[2]}_one_sided", np.asarray(LOWEST, np.int8)),
        ]
        for item in (node, *readers[node.output[0]]):
            item.input[1], item.input[2] = names


def greatest_values(graph: Graph) -> dict[str, float]:
    """Of tensors that are never negative, the greatest value that their operators let through, maybe infinite."""
    found: dict[str, float] = {}
    for node in graph.sorted_nodes():
        top = _top(graph, node, found)
        if top is not None:
            found.update(dict.fromkeys(node.output, top))
    return found


def _top(graph: Graph, node: NodeProto, known: dict[str, float]) -> float | None:
    if node.op_type in BELOW_ONE:
        return 1.0
    if node.op_type in ("Relu", "Clip"):
        return _cut_off(graph, node)
    joins = node.op_type in ("Concat", "Add", "Mul")
    data = list(node.input) if joins else list(node.input[:1])
    if not data or any(name not in known for name in data):
        return None
    if node.op_type in KEEPS:
        return max(known[name] for name in data)
    return math.inf if joins else None


def _cut_off(graph: Graph, node: NodeProto) -> float | None:
    """The greatest value that a relu or clip lets through, None if it lets negative ones through."""
    if node.op_type == "Relu":
        return math.inf
    low, high = (graph.arrays.get(name) if name else None for name in [*node.input[1:], "", ""][:2])
    if low is None or low.item() < 0:
        return None
    return math.inf if high is None else float(high.item())


def _float32_below(value: float) -> np.float32:
    """The greatest float32 of which 255 do not exceed 255 times `value`."""
    found = np.float32(value)
    while float(found) * STEPS > value * STEPS or float(np.float32(found * np.float32(STEPS))) > value * STEPS:
        found = np.nextafter(found, np.float32(0))
    return found
