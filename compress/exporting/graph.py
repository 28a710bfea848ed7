"""Small steps on ONNX graphs that every emission needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

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
        """Tensor -> the operators that read it, once per input."""
        found: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                if name:
                    found[name].append(node)
        return found

    def add_array(self, name: str, array: Array) -> str:
        """Keep an array under a name; the same name again must hold the same array."""
        if name in self.arrays:
            assert np.array_equal(self.arrays[name], array), name
        self.arrays[name] = array
        return name

    def rename_reads(self, old: str, new: str, nodes: Iterable[NodeProto] | None = None) -> None:
        """Let operators (all by default) read another tensor."""
        for node in self.nodes if nodes is None else nodes:
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new

    def sorted_nodes(self) -> list[NodeProto]:
        """The operators in an order in which they can be computed, otherwise as they are."""
        ready = {*self.arrays, "", *(value.name for value in self.proto.input)}
        pending, result = list(self.nodes), []
        while pending:
            later = []
            for node in pending:
                if all(name in ready for name in node.input):
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
            used = {name for node in self.nodes for name in node.input} | set(self.outputs)
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
