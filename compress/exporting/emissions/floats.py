"""Layers that stay in float between int8 ones, kept from the runtime's own quantization.

Where an operator with float weights stands between a DequantizeLinear and a QuantizeLinear, ONNX Runtime quantizes its
weights itself, with one scale for the whole tensor: on a network with one such layer the relative error of the outputs
was 1.05 instead of 0.0005. A `Max` of one tensor, which computes nothing, parts them.
"""

from __future__ import annotations

from onnx import NodeProto, helper

from compress.exporting.graph import Graph

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
BEHIND = frozenset({"Add", "Clip", "Relu"})
"""Operators that are fused into a layer, or folded into the quantization behind it."""


def keep_float_layers(graph: Graph) -> None:
    """Part float layers from the DequantizeLinear before them, where a QuantizeLinear is behind."""
    writers, readers = graph.writers(), graph.readers()
    for node in list(graph.nodes):
        if node.op_type not in LAYERS or node.input[1] not in graph.arrays:
            continue
        before = writers.get(node.input[0])
        if before is None or before.op_type != "DequantizeLinear" or not _is_quantized_behind(node, readers):
            continue
        parted = f"{node.output[0]}_float_input"
        graph.nodes.append(helper.make_node("Max", [node.input[0]], [parted], f"{node.name}_stays_float"))
        node.input[0] = parted


def _is_quantized_behind(node: NodeProto, readers: dict[str, list[NodeProto]]) -> bool:
    pending, seen = list(readers[node.output[0]]), set()
    while pending:
        reader = pending.pop()
        if reader.op_type == "QuantizeLinear":
            return True
        if reader.op_type in BEHIND and reader.name not in seen:
            seen.add(reader.name)
            pending += readers[reader.output[0]]
    return False
