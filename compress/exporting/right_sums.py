"""Int8 files run as they are where they go, on a processor whose own kernels would give wrong sums.

Without VNNI, ONNX Runtime's kernels for x86 add two products of uint8 and int8 in 16 bits, with saturation. Whether a
file for VNNI or for Arm gives the right answers can be told there all the same: products of two unsigned numbers are
added in 32 bits. ONNX Runtime makes weights unsigned by itself if it is asked, but only where it optimizes; what stands
in the file as an integer product is rewritten here.
"""

from __future__ import annotations

import functools

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from compress.exporting.graph import Array, Graph
from compress.targets.emissions import saturates
from compress.targets.measuring.machine import machine

FOR_OTHERS = ("ort-x86", "ort-arm")
"""Emissions for processors whose sums do not saturate."""
OPTION = "session.x64quantprecision"
"""Of a session, "1" where its weights shall be unsigned; other processors than those without VNNI ignore it."""
PRODUCT = "MatMulIntegerToFloat"
"""Reads data, weights, their scales and zero points, and a bias; the last three may be left out."""
SHIFT = 128


@functools.cache
def saturates_here() -> bool:
    """Whether this processor's kernels would give wrong sums."""
    return saturates(machine())


def unsigned(proto: ModelProto) -> ModelProto:
    """A copy in which integer products with constant int8 weights read unsigned numbers of the same values.

    It is the graph itself if it has none.
    """
    if all(node.op_type != PRODUCT for node in proto.graph.node):
        return proto
    result = ModelProto()
    result.CopyFrom(proto)
    graph = Graph(result.graph)
    nodes: list[NodeProto] = []
    shifted: dict[str, str] = {}
    for node in graph.nodes:
        if _can_be_shifted(graph, node):
            data, weights, zero_point = node.input[0], graph.arrays[node.input[1]], graph.arrays[node.input[4]]
            if zero_point.dtype == np.int8:
                if data not in shifted:
                    shifted[data] = f"{data}_unsigned"
                    nodes += _shift(graph, data, shifted[data])
                node.input[0] = shifted[data]
                node.input[4] = graph.add_array(f"{node.input[4]}_unsigned", _unsigned(zero_point))
            node.input[1] = graph.add_array(f"{node.input[1]}_unsigned", _unsigned(weights))
            rest = list(node.input[6:])
            del node.input[5:]
            node.input.extend([graph.add_array("unsigned_weight_zero_point", np.asarray(SHIFT, np.uint8)), *rest])
        nodes.append(node)
    graph.nodes = nodes
    graph.write()
    return result


def _can_be_shifted(graph: Graph, node: NodeProto) -> bool:
    """Whether it is an integer product whose weights and zero points are known: weights of int8 without one."""
    if node.op_type != PRODUCT or len(node.input) < 5 or any(node.input[5:6]):
        return False
    weights = graph.arrays.get(node.input[1])
    return weights is not None and weights.dtype == np.int8 and node.input[4] in graph.arrays


def _unsigned(numbers: Array) -> Array:
    return (numbers.astype(np.int16) + SHIFT).astype(np.uint8)


def _shift(graph: Graph, tensor: str, unsigned: str) -> list[NodeProto]:
    """Operators that make an int8 tensor unsigned."""
    wide, moved = f"{unsigned}_wide", f"{unsigned}_moved"
    shift = graph.add_array("unsigned_shift", np.asarray(SHIFT, np.int32))
    return [
        helper.make_node("Cast", [tensor], [wide], f"{unsigned}_widen", to=TensorProto.INT32),
        helper.make_node("Add", [wide, shift], [moved], f"{unsigned}_move"),
        helper.make_node("Cast", [moved], [unsigned], f"{unsigned}_narrow", to=TensorProto.UINT8),
    ]
