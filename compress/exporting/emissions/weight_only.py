"""Weights of linear layers in 4 or 8 bits, by block: a small file of a language model, without calibration.

Each linear layer, the head of a language model among them, becomes ONNX Runtime's contributed operator `MatMulNBits`
(docs/ContribOperators.md), and embeddings `GatherBlockQuantized`; an embedding that is the head too is stored once.
Inputs of layers stay float32 in the graph; at the accuracy level 4 the kernel rounds them to int8
too, each block of 32 with a scale of its own, and multiplies integers. Measured on one core with AVX-512 VNNI, a Llama
of 13.7 million weights, 64 tokens and 1 token: float32 takes 61 and 11.7 ms; 8 bits 135 and 72 ms at level 0, 49 and
1.3 ms at level 4; 4 bits 70 and 2.1 ms at level 0, 54 and 1.1 ms at level 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, helper

from compress.exporting.canonical import split
from compress.exporting.emissions.blocks import BLOCK, Blocks, packed, quantize_blocks
from compress.exporting.emissions.constant_weights import constant_weights, embedding, faster_float, turned
from compress.exporting.graph import Array, Graph, attribute

DOMAIN, DOMAIN_VERSION = "com.microsoft", 1
FEWEST_WEIGHTS = 2**12
"""Layers with fewer weights stay float: they are small already, and rounding what they read costs time."""
ACCURACY_LEVEL = 4
"""What the kernel may compute in: 4 is int8, 0 and 1 float32."""


def weights4(graph: ModelProto) -> ModelProto:
    """The file `ort-weights4` of a float graph, or of the float graph of a canonical one."""
    return weight_only(split(graph)[0], 4)


def weights8(graph: ModelProto) -> ModelProto:
    """The file `ort-weights8` of a float graph, or of the float graph of a canonical one."""
    return weight_only(split(graph)[0], 8)


def weight_only(
    float_proto: ModelProto,
    bits: int,
    ignore: Sequence[str] = (),
    *,
    symmetric: bool = False,
    accuracy_level: int = ACCURACY_LEVEL,
) -> ModelProto:
    """A copy of a float graph whose linear layers have weights of `bits` bits (4 or 8).

    `ignore` are globs of operators' names that stay float; `symmetric` leaves out zero points.
    """
    result = faster_float(float_proto)
    graph = Graph(result.graph)
    made: dict[str, list[str]] = {}

    def stored(label: str, weights: Array) -> list[str]:
        if label not in made:
            made[label] = _stored(graph, label, quantize_blocks(weights, bits, symmetric=symmetric))
        return made[label]

    nodes: list[NodeProto] = []
    for node in graph.nodes:
        weights = constant_weights(graph, node, FEWEST_WEIGHTS, ignore)
        rows = embedding(graph, node, FEWEST_WEIGHTS, ignore)
        if weights is not None:
            nodes += _product(node, weights, stored(_rows_of(graph, node), weights.T), bits, accuracy_level)
        elif rows is not None and rows.shape[1] % BLOCK == 0:
            nodes += _rows(graph, node, rows, stored(f"{node.input[0]}_rows", rows), bits)
        else:
            nodes.append(node)
    graph.nodes = nodes
    graph.write()
    if made:
        _import_domain(result)
    return result


def would_quantize(float_proto: ModelProto, ignore: Sequence[str] = ()) -> bool:
    """Whether there is a linear layer that is large enough."""
    graph = Graph(float_proto.graph)
    return any(constant_weights(graph, node, FEWEST_WEIGHTS, ignore) is not None for node in graph.nodes)


def _rows_of(graph: Graph, node: NodeProto) -> str:
    """What to call the weights of a layer, output by output: an embedding and the head that it is share a name."""
    if source := turned(graph, node.input[1]):
        return f"{source}_rows"
    return f"{node.input[1]}_{'rows' if attribute(node, 'transB', 0) else 'columns'}"


def _stored(graph: Graph, label: str, blocks: Blocks) -> list[str]:
    """Keep what the operator reads under names that begin with `label`: integers, scales, perhaps zero points."""
    arrays: dict[str, Array] = {"integers": packed(blocks.integers, blocks.bits), "scales": blocks.scales}
    if not blocks.has_middle_zero_points:
        arrays["zero_points"] = packed(blocks.zero_points, blocks.bits)
    return [graph.add_array(f"{label}_{part}", array) for part, array in arrays.items()]


def _product(node: NodeProto, weights: Array, stored: Sequence[str], bits: int, accuracy_level: int) -> list[NodeProto]:
    inputs, outputs = weights.shape
    bias = node.input[2] if len(node.input) > 2 else ""
    product = f"{node.output[0]}_product" if bias else node.output[0]
    sizes = {"K": inputs, "N": outputs, "bits": bits, "block_size": BLOCK, "accuracy_level": accuracy_level}
    made = helper.make_node("MatMulNBits", [node.input[0], *stored], [product], node.name, domain=DOMAIN)
    made.attribute.extend(helper.make_attribute(name, value) for name, value in sizes.items())
    if not bias:
        return [made]
    return [made, helper.make_node("Add", [product, bias], [node.output[0]], f"{node.output[0]}_bias")]


def _rows(graph: Graph, node: NodeProto, rows: Array, stored: Sequence[str], bits: int) -> list[NodeProto]:
    """The rows that a Gather reads, made float as they are read; blocks lie one behind the other for this operator."""
    flat = f"{stored[0]}_flat"
    shape = graph.add_array(f"{flat}_shape", np.array([len(rows), -1]))
    inputs = [flat, node.input[1], *stored[1:]]
    made = helper.make_node("GatherBlockQuantized", inputs, list(node.output), node.name, domain=DOMAIN)
    sizes = {"bits": bits, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
    made.attribute.extend(helper.make_attribute(name, value) for name, value in sizes.items())
    return [helper.make_node("Reshape", [stored[0], shape], [flat], f"{node.name}_{flat}"), made]


def _import_domain(proto: ModelProto) -> None:
    if all(item.domain != DOMAIN for item in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
