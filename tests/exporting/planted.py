"""Faults put into a file on purpose, each in one operator; everything else stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto

from compress.exporting.graph import Graph

Array = np.ndarray[Any, Any]


def planted(proto: ModelProto, operator: str, change: Callable[[Graph, NodeProto], None]) -> ModelProto:
    """A copy of the graph in which `change` was done to the operator of that name."""
    result = ModelProto()
    result.CopyFrom(proto)
    graph = Graph(result.graph)
    change(graph, next(node for node in graph.nodes if node.name == operator))
    graph.write()
    return result


def constant(position: int, change: Callable[[Array], Any]) -> Callable[[Graph, NodeProto], None]:
    """Change what one operator reads there, for it alone: 0 is data, 1 a scale, 2 a zero point."""

    def apply(graph: Graph, node: NodeProto) -> None:
        array = graph.arrays[node.input[position]]
        changed = np.asarray(change(array)).astype(array.dtype, order="C")
        node.input[position] = graph.add_array(f"planted_{position}", changed)

    return apply


def four_times(array: Array) -> Any:
    return array * 4


def removed(graph: Graph, node: NodeProto) -> None:
    """The operator gone: its readers read what it read."""
    graph.rename_reads(node.output[0], node.input[0])
    graph.nodes.remove(node)


def quantizers(proto: ModelProto) -> list[str]:
    """The names of all operators that have a scale."""
    return [node.name for node in proto.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
