"""A linear layer with a float output as one operator of ONNX Runtime: int8 product, scales and bias at once.

ONNX Runtime makes a `MatMulIntegerToFloat` of a quantized product by itself, but leaves the bias behind as an addition
of its own. Measured on one core with AVX-512 VNNI, 128 x 384 times 384 x 1536: 415 us with the addition, 381 us with
the bias inside; and without an addition before it GELU runs as `Gelu` (128 us) instead of `BiasGelu` (166 us).
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper

from compress.exporting.canonical import scale_of
from compress.exporting.graph import Graph

DOMAIN = "com.microsoft"
"""The operators that ONNX Runtime adds to the standard ones; every build of it has them."""


def fuse_linear(proto: ModelProto) -> None:
    """Replace, in place, products of dequantized activations and weights by `MatMulIntegerToFloat`.

    The numbers are those of the product in exact integers, times the scales, plus the bias: they differ from
    dequantizing first by rounding of float32 alone. A product that is quantized right behind stays: it becomes a
    `QLinearMatMul`.
    """
    graph = Graph(proto.graph)
    writers, readers = graph.writers(), graph.readers()
    found = False
    for node in list(graph.nodes):
        data, weight = _sides(graph, node, writers)
        if data is None or weight is None or node.output[0] in graph.outputs:
            continue
        behind = readers[node.output[0]]
        if len(behind) == 1 and behind[0].op_type == "QuantizeLinear":
            continue
        addition, bias = _bias(graph, behind, width=graph.arrays[weight.input[0]].shape[1])
        inputs = [data.input[0], weight.input[0], data.input[1], weight.input[1], data.input[2], "", bias]
        output = node.output[0] if addition is None else addition.output[0]
        position = next(i for i, item in enumerate(graph.nodes) if item is node)
        graph.nodes[position] = helper.make_node(
            "MatMulIntegerToFloat", inputs if bias else inputs[:5], [output], node.name, domain=DOMAIN
        )
        if addition is not None:
            graph.nodes = [item for item in graph.nodes if item is not addition]
        found = True
    if found:
        graph.write()
        declare(proto)


def declare(proto: ModelProto) -> None:
    """Say that a graph uses ONNX Runtime's own operators."""
    if all(item.domain != DOMAIN for item in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _sides(
    graph: Graph, node: NodeProto, writers: dict[str, NodeProto]
) -> tuple[NodeProto, NodeProto] | tuple[None, None]:
    """What dequantizes the activations and the weights (inputs, outputs) of a product, symmetric per output."""
    if node.op_type != "MatMul":
        return None, None
    data, weight = (writers.get(name) for name in node.input)
    if data is None or weight is None or {data.op_type, weight.op_type} != {"DequantizeLinear"}:
        return None, None
    if data.input[0] in graph.arrays or weight.input[0] not in graph.arrays or scale_of(graph, data).axis is not None:
        return None, None
    scale = scale_of(graph, weight)
    if graph.arrays[weight.input[0]].ndim != 2 or scale.axis not in (None, 1, -1) or scale.zero_point.any():
        return None, None
    return data, weight


def _bias(graph: Graph, behind: list[NodeProto], width: int) -> tuple[NodeProto | None, str]:
    """The addition of a constant per output that alone reads a product, and that constant."""
    if len(behind) != 1 or behind[0].op_type != "Add":
        return None, ""
    for name in behind[0].input:
        array = graph.arrays.get(name)
        if array is not None and array.shape == (width,) and array.dtype == np.float32:
            return behind[0], name
    return None, ""
