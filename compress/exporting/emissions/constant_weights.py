"""Linear layers of a float graph: products with constant weights, and what is done to a graph before rounding these."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from onnx import ModelProto, NodeProto

from compress.exporting.emissions.attention import fuse_attention
from compress.exporting.emissions.rows import compute_rows_that_are_read
from compress.exporting.graph import Array, Graph, attribute


def faster_float(float_proto: ModelProto) -> ModelProto:
    """A copy of a float graph with attention as one operator, and of the last layer only the rows that are read."""
    result = ModelProto()
    result.CopyFrom(float_proto)
    fuse_attention(result)
    compute_rows_that_are_read(result)
    return result


def constant_weights(graph: Graph, node: NodeProto, fewest: int, ignore: Sequence[str] = ()) -> Array | None:
    """The float32 weights (inputs, outputs) of a MatMul, or of a Gemm without factors; None for other operators.

    Also where they are the transpose of a constant, such as an embedding that is read as the head too. Layers with less
    than `fewest` weights are none, and those whose names match a glob of `ignore`.
    """
    if any(fnmatchcase(node.name, glob) for glob in ignore):
        return None
    array = _constant(graph, node.input[1]) if node.op_type in ("MatMul", "Gemm") and not node.domain else None
    if array is None or array.ndim != 2 or array.dtype.name != "float32" or array.size < fewest:
        return None
    if node.op_type == "MatMul":
        return array
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
        return None
    return array.T if attribute(node, "transB", 0) else array


def embedding(graph: Graph, node: NodeProto, fewest: int, ignore: Sequence[str] = ()) -> Array | None:
    """The float32 constant (rows, width) of which a Gather reads rows; None for other operators, as above."""
    if node.op_type != "Gather" or node.domain or any(fnmatchcase(node.name, glob) for glob in ignore):
        return None
    array = graph.arrays.get(node.input[0])
    if array is None or array.ndim != 2 or array.dtype.name != "float32" or attribute(node, "axis", 0) != 0:
        return None
    return array if array.size >= fewest else None


def turned(graph: Graph, name: str) -> str:
    """The constant that a tensor is the transpose of; empty if it is none."""
    writer = next((node for node in graph.nodes if name in node.output), None)
    if writer is None or writer.op_type != "Transpose" or list(attribute(writer, "perm", [1, 0])) != [1, 0]:
        return ""
    return writer.input[0] if writer.input[0] in graph.arrays else ""


def _constant(graph: Graph, name: str) -> Array | None:
    if name in graph.arrays:
        return graph.arrays[name]
    source = turned(graph, name)
    return graph.arrays[source].T if source else None
