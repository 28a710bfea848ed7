"""Linear layers whose inputs are quantized as they come: a float graph becomes an int8 one without calibration.

Each input gets a scale from its own least and greatest value (ONNX's DynamicQuantizeLinear), weights one scale per
output. ONNX Runtime fuses what is written here to `DynamicQuantizeMatMul`, or, where several layers read one input, to
one `DynamicQuantizeLinear` and a `MatMulIntegerToFloat` each. Measured on one core with AVX-512 VNNI: as fast as with
fixed scales within 3 % for 128 x 384 times 384 x 1536, 13 % slower for 128 x 384 times 384 x 384.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
from onnx import ModelProto, NodeProto, helper

from compress.exporting.emissions.attention import fuse_attention
from compress.exporting.emissions.rows import compute_rows_that_are_read
from compress.exporting.graph import Array, Graph, attribute

FEWEST_WEIGHTS = 2**12
"""Layers with fewer weights stay float: quantizing their input costs more than the product."""
LARGEST = 127


def dynamic(float_proto: ModelProto, ignore: Sequence[str] = ()) -> ModelProto:
    """A copy of a float graph in which products with constant weights (inputs, outputs) run in int8.

    `ignore` are globs of operators' names, which are those of the network's modules, that stay float. What else makes
    the file faster (`fuse_attention`, `compute_rows_that_are_read`) is done too.
    """
    result = ModelProto()
    result.CopyFrom(float_proto)
    fuse_attention(result)
    compute_rows_that_are_read(result)
    graph = Graph(result.graph)
    quantized: set[str] = set()
    nodes: list[NodeProto] = []
    for node in graph.nodes:
        weights = _weights(graph, node)
        if weights is None or any(fnmatchcase(node.name, glob) for glob in ignore):
            nodes.append(node)
            continue
        if node.input[0] not in quantized:
            quantized.add(node.input[0])
            nodes.append(_quantize(node.input[0]))
        nodes += _product(graph, node, weights)
    graph.nodes = nodes
    graph.write()
    return result


def would_quantize(float_proto: ModelProto) -> bool:
    """Whether linear layers, and no convolutions, do most of a graph's work: there dynamic scales are worth trying."""
    graph = Graph(float_proto.graph)
    linear = sum(_weights(graph, node) is not None for node in graph.nodes)
    return linear > sum(node.op_type == "Conv" for node in graph.nodes)


def _weights(graph: Graph, node: NodeProto) -> Array | None:
    """The constant float weights (inputs, outputs) of a linear layer that is worth it, None for other operators."""
    array = graph.arrays.get(node.input[1]) if node.op_type in ("MatMul", "Gemm") else None
    if array is None or array.ndim != 2 or array.dtype != np.float32 or array.size < FEWEST_WEIGHTS:
        return None
    if node.op_type == "MatMul":
        return array
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
        return None
    return array.T if attribute(node, "transB", 0) else array


def _quantize(tensor: str) -> NodeProto:
    outputs = [f"{tensor}_dynamic{part}" for part in ("", "_scale", "_zero_point")]
    return helper.make_node("DynamicQuantizeLinear", [tensor], outputs, f"{tensor}_quantize")


def _product(graph: Graph, node: NodeProto, weights: Array) -> list[NodeProto]:
    """The product in integers, both scales, and a Gemm's bias, in the form that ONNX Runtime recognizes."""
    scale = np.maximum(np.abs(weights).max(axis=0) / LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
    integers = np.rint(weights / scale).astype(np.int8)
    name, label = node.output[0], node.input[1] + ("_by_inputs" if attribute(node, "transB", 0) else "")
    data, data_scale, data_zero_point = _quantize(node.input[0]).output
    weight = graph.add_array(f"{label}_quantized", integers)
    weight_scale = graph.add_array(f"{label}_scale", scale)
    weight_zero_point = graph.add_array("dynamic_weight_zero_point", np.zeros((), np.int8))
    bias = node.input[2] if len(node.input) > 2 else ""
    steps = [f"{name}_{part}" for part in ("integers", "steps", "scale", "product")]
    output = steps[3] if bias else name
    nodes = [
        helper.make_node("MatMulInteger", [data, weight, data_zero_point, weight_zero_point], [steps[0]], node.name),
        helper.make_node("Cast", steps[:1], [steps[1]], f"{name}_cast", to=1),
        helper.make_node("Mul", [data_scale, weight_scale], [steps[2]], f"{name}_scales"),
        helper.make_node("Mul", steps[1:3], [output], f"{name}_scaled"),
    ]
    return nodes + ([helper.make_node("Add", [output, bias], [name], f"{name}_bias")] if bias else [])
