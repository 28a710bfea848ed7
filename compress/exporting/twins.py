"""The float twin of a file whose weights were rounded without calibration: its answers, computed by float operators.

A twin is the float graph in which layers have the weights that the file's integers stand for and, where the file rounds
what they read, operators of ONNX that round alike. It is read from the file itself, so that a wrong byte, shape or
scale in it shows as a difference of answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import ModelProto, NodeProto, helper

from compress.exporting.emissions.blocks import BLOCK, Blocks, dequantize_blocks, unpacked
from compress.exporting.graph import Array, Graph, attribute

INT8_LEVEL = 4
"""The accuracy level of MatMulNBits at which its kernel rounds what it reads to int8."""


@dataclass(frozen=True)
class _Layer:
    """Weights (inputs, outputs) of a layer, and how what it reads is rounded."""

    weights: Array
    reads: Literal["float", "tensor", "blocks"]


def twin(floating: ModelProto, file: ModelProto) -> ModelProto:
    """The twin of `file`, which was made of the float graph `floating` and calls its layers as that does."""
    result = ModelProto()
    result.CopyFrom(floating)
    graph = Graph(result.graph)
    layers = _layers(Graph(file.graph))
    nodes: list[NodeProto] = []
    done: set[str] = set()
    for node in graph.nodes:
        layer = layers.get(node.name) if node.op_type in ("Gather", "MatMul", "Gemm") else None
        if layer is not None and node.op_type == "Gather":
            node.input[0] = graph.add_array(f"{node.name}_twin_rows", np.ascontiguousarray(layer.weights.T))
        elif layer is not None:
            turned = node.op_type == "Gemm" and attribute(node, "transB", 0)
            weights = layer.weights.T if turned else layer.weights
            node.input[1] = graph.add_array(f"{node.name}_twin_weights", np.ascontiguousarray(weights))
            if layer.reads != "float":
                data = node.input[0]
                node.input[0] = f"{data}_twin"
                if data not in done:
                    done.add(data)
                    nodes += _by_tensor(data) if layer.reads == "tensor" else _by_blocks(graph, data, layer)
        nodes.append(node)
    graph.nodes = nodes
    graph.write()
    return result


def _layers(graph: Graph) -> dict[str, _Layer]:
    """The rounded layers of a file by name."""
    readers, writers = graph.readers(), graph.writers()
    found = {}
    for node in graph.nodes:
        if node.op_type == "MatMulNBits":
            level = attribute(node, "accuracy_level", 0)
            weights = dequantize_blocks(blocks_of(graph, node)).T
            found[node.name] = _Layer(weights, "blocks" if level == INT8_LEVEL else "float")
        elif node.op_type == "GatherBlockQuantized":
            found[node.name] = _Layer(dequantize_blocks(_rows_of(graph, node, writers)).T, "float")
        elif node.op_type == "MatMulInteger":
            (cast,) = readers[node.output[0]]
            (scaled,) = readers[cast.output[0]]
            scale = graph.arrays[writers[scaled.input[1]].input[1]]
            found[node.name] = _Layer(graph.arrays[node.input[1]].astype(np.float32) * scale, "tensor")
    return found


def blocks_of(graph: Graph, node: NodeProto) -> Blocks:
    """What a MatMulNBits of the graph reads as weights."""
    bits, outputs, inputs = (attribute(node, name) for name in ("bits", "N", "K"))
    return _blocks(graph, node, graph.arrays[node.input[1]], bits, (outputs, inputs))


def _rows_of(graph: Graph, node: NodeProto, writers: Mapping[str, NodeProto]) -> Blocks:
    """What a GatherBlockQuantized reads rows of, behind a Reshape."""
    stored, bits = graph.arrays[writers[node.input[0]].input[0]], attribute(node, "bits")
    return _blocks(graph, node, stored, bits, (len(stored), stored[0].size * 8 // bits))


def _blocks(graph: Graph, node: NodeProto, stored: Array, bits: int, shape: tuple[int, int]) -> Blocks:
    outputs, inputs = shape
    count = -(-inputs // BLOCK)
    scales = graph.arrays[node.input[2]].reshape(outputs, count)
    integers = unpacked(stored, bits, BLOCK)
    zero_points = np.full((outputs, count), 2 ** (bits - 1), np.uint8)
    if len(node.input) > 3 and node.input[3]:
        zero_points = unpacked(graph.arrays[node.input[3]].reshape(outputs, -1), bits, count)
    return Blocks(integers, scales, zero_points, bits, inputs)


def _by_tensor(data: str) -> list[NodeProto]:
    """Round a tensor to uint8 with one scale, as it comes."""
    parts = [f"{data}_twin_{part}" for part in ("integers", "scale", "zero_point")]
    return [
        helper.make_node("DynamicQuantizeLinear", [data], parts, f"{data}_twin_quantize"),
        helper.make_node("DequantizeLinear", parts, [f"{data}_twin"], f"{data}_twin_dequantize"),
    ]


def _by_blocks(graph: Graph, data: str, layer: _Layer) -> list[NodeProto]:
    """Round each 32 values of the last axis to -127 to 127, with a scale from the one furthest from zero.

    That is what ONNX Runtime does (core/mlas/lib, QuantizeARow_CompInt8); the last axis is filled up with zeros.
    """
    inputs = len(layer.weights)
    filled = -(-inputs // BLOCK) * BLOCK
    constants = {
        "rows": np.array([-1, inputs]),
        "blocks": np.array([-1, filled // BLOCK, BLOCK]),
        "filled": np.array([-1, filled]),
        "pads": np.array([0, 0, 0, filled - inputs]),
        "starts": np.array([0]),
        "ends": np.array([inputs]),
        "axes": np.array([1]),
        "last": np.array([2]),
        "largest": np.array(127, np.float32),
        "least": np.array(1e-30, np.float32),
    }
    name = {key: graph.add_array(f"{data}_twin_{key}", value) for key, value in constants.items()}
    steps = [
        ("Shape", [data], "shape"),
        ("Reshape", [data, name["rows"]], "flat"),
        ("Pad", ["flat", name["pads"]], "padded"),
        ("Reshape", ["padded", name["blocks"]], "blocked"),
        ("Abs", ["blocked"], "size"),
        ("ReduceMax", ["size", name["last"]], "furthest"),
        ("Max", ["furthest", name["least"]], "extent"),
        ("Div", [name["largest"], "extent"], "per_unit"),
        ("Div", ["extent", name["largest"]], "scale"),
        ("Mul", ["blocked", "per_unit"], "scaled"),
        ("Round", ["scaled"], "integers"),
        ("Mul", ["integers", "scale"], "rounded"),
        ("Reshape", ["rounded", name["filled"]], "joined"),
        ("Slice", ["joined", name["starts"], name["ends"], name["axes"]], "cut"),
        ("Reshape", ["cut", "shape"], ""),
    ]
    own = {output for _, _, output in steps}

    def tensor(item: str) -> str:
        return (f"{data}_twin_{item}_step" if item else f"{data}_twin") if item in own else item

    return [
        helper.make_node(kind, [tensor(item) for item in given], [tensor(output)], f"{tensor(output)}_node")
        for kind, given, output in steps
    ]
