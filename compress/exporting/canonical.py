"""The canonical quantized graph: float operators between signed 8-bit QuantizeLinear and DequantizeLinear.

It holds exactly the numbers of the trained network and no taste of any runtime: emissions are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from compress.exporting.graph import Array, Graph, attribute


@dataclass(frozen=True)
class Scale:
    """How a tensor is quantized: `axis` is None for one scale per tensor."""

    scale: Array
    zero_point: Array
    axis: int | None


def scale_of(graph: Graph, node: NodeProto) -> Scale:
    """The scale of a QuantizeLinear or DequantizeLinear."""
    scale, zero_point = (graph.arrays[name] for name in node.input[1:3])
    return Scale(scale, zero_point, attribute(node, "axis", 1) if scale.ndim else None)


def same_scale(graph: Graph, one: NodeProto, other: NodeProto) -> bool:
    """Whether two of them agree, for one scale per tensor."""
    a, b = scale_of(graph, one), scale_of(graph, other)
    return a.axis is None and b.axis is None and bool(a.scale == b.scale) and bool(a.zero_point == b.zero_point)


def split(proto: ModelProto) -> tuple[ModelProto, dict[str, Scale]]:
    """The float graph, and the scale of each tensor of it that is quantized, weights included.

    Weights of the float graph are those that the integers stand for.
    """
    result = ModelProto()
    result.CopyFrom(proto)
    graph = Graph(result.graph)
    writers = graph.writers()
    scales: dict[str, Scale] = {}
    for node in list(graph.nodes):
        if node.op_type != "DequantizeLinear":
            continue
        scale, source = scale_of(graph, node), node.input[0]
        if source in graph.arrays:
            name = node.output[0]
            graph.arrays[name] = dequantized(graph.arrays[source], scale)
            scales[name] = scale
        else:
            name = writers[source].input[0]
            graph.rename_reads(node.output[0], name)
            graph.outputs = [name if output == node.output[0] else output for output in graph.outputs]
            scales[name] = scale
        graph.nodes.remove(node)
    graph.nodes = [node for node in graph.nodes if node.op_type != "QuantizeLinear"]
    _keep_output_names(graph)
    graph.write()
    return result, scales


def dequantized(integers: Array, scale: Scale) -> Array:
    """The floats that integers stand for."""
    shape = [1] * integers.ndim
    if scale.axis is not None:
        shape[scale.axis] = -1
    steps = integers.astype("float32") - scale.zero_point.astype("float32").reshape(shape)
    result: Array = steps * scale.scale.reshape(shape)
    return result


def _keep_output_names(graph: Graph) -> None:
    """A graph output that was a dequantized tensor keeps its name."""
    for value, name in zip(graph.proto.output, graph.outputs, strict=True):
        if value.name == name:
            continue
        for node in graph.nodes:
            for i, output in enumerate(node.output):
                if output == name:
                    node.output[i] = value.name
        graph.rename_reads(name, value.name)
    graph.outputs = [value.name for value in graph.proto.output]
