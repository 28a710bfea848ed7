"""Small steps on ONNX graphs that every emission needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]


class Graph:
    """An ONNX graph with its initializers as arrays; changes are made here, then written back."""

    def __init__(self, proto: GraphProto) -> None:
        self.proto = proto
        self.nodes: list[NodeProto] = list(proto.node)
        self.arrays: dict[str, Array] = {item.name: numpy_helper.to_array(item) for item in proto.initializer}
        self.outputs = [value.name for value in proto.output]

    def writers(self) -> dict[str, NodeProto]:
        """Tensor -> the operator that writes it."""
        return {name: node for node in self.nodes for name in node.output if name}

    def readers(self) -> dict[str, list[NodeProto]]:
        """Tensor -> the operators that read it, once per input, and once if graphs within them do."""
        found: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in reads(node):
                found[name].append(node)
        return found

    def add_array(self, name: str, array: Array) -> str:
        """Keep an array under a name; the same name again must hold the same array."""
        if name in self.arrays:
            assert np.array_equal(self.arrays[name], array), name
        self.arrays[name] = array
        return name

    def rename_reads(self, old: str, new: str, nodes: Iterable[NodeProto] | None = None) -> None:
        """Let operators (all by default), and the graphs within them, read another tensor."""
        for node in self.nodes if nodes is None else nodes:
            _rename_reads(node, old, new)

    def sorted_nodes(self) -> list[NodeProto]:
        """The operators in an order in which they can be computed, otherwise as they are."""
        ready = {*self.arrays, *(value.name for value in self.proto.input)}
        pending, result = list(self.nodes), []
        while pending:
            later = []
            for node in pending:
                if all(name in ready for name in reads(node)):
                    result.append(node)
                    ready.update(node.output)
                else:
                    later.append(node)
            assert len(later) < len(pending), f"no operator writes what {later[0].name} reads"
            pending = later
        return result

    def drop_unused(self) -> None:
        """Remove operators and arrays that nothing reads."""
        while True:
            used = {name for node in self.nodes for name in reads(node)} | set(self.outputs)
            kept = [node for node in self.nodes if used.intersection(node.output)]
            if len(kept) == len(self.nodes):
                break
            self.nodes = kept
        self.arrays = {name: array for name, array in self.arrays.items() if name in used}

    def write(self) -> None:
        """Put everything back into the graph."""
        self.drop_unused()
        nodes = self.sorted_nodes()
        del self.proto.node[:]
        self.proto.node.extend(nodes)
        initializers: list[TensorProto] = [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]
        del self.proto.initializer[:]
        self.proto.initializer.extend(initializers)


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """The value of an operator's attribute."""
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def nested(node: NodeProto) -> list[GraphProto]:
    """The graphs that an operator (If, Loop, Scan) holds."""
    return [
        graph
        for item in node.attribute
        if item.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS)
        for graph in ([item.g] if item.HasField("g") else item.graphs)
    ]


def captured(node: NodeProto) -> list[str]:
    """The tensors that the graphs within an operator, and those within these, take from around it: each once."""
    found: dict[str, None] = {}
    for graph in nested(node):
        own = _defined(graph)
        found |= {name: None for inner in graph.node for name in reads(inner) if name not in own}
        found |= {value.name: None for value in graph.output if value.name not in own}
    return list(found)


def reads(node: NodeProto) -> list[str]:
    """The tensors that an operator reads, once per input, then what the graphs within it take from around it."""
    return [name for name in node.input if name] + captured(node)


def names(node: NodeProto) -> set[str]:
    """All names of tensors in an operator and in the graphs within it."""
    inner = [names(item) for graph in nested(node) for item in graph.node]
    return {*node.input, *node.output}.union(*inner, *(_defined(graph) for graph in nested(node))) - {""}


def _defined(graph: GraphProto) -> set[str]:
    """The tensors that a graph has itself."""
    constants = {item.name for item in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    return constants | {value.name for value in graph.input} | {name for node in graph.node for name in node.output}


def _rename_reads(node: NodeProto, old: str, new: str) -> None:
    for i, name in enumerate(node.input):
        if name == old:
            node.input[i] = new
    for graph in nested(node):
        if old in _defined(graph):
            continue
        for inner in graph.node:
            _rename_reads(inner, old, new)
        for value in graph.output:
            if value.name == old:
                value.name = new
