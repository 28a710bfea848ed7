"""Of a sequence from which one token is taken, only that token is computed.

Classifiers of BERT and ViT read the first token of the last layer; all of the layer but its keys and values is then
computed for that token alone. Measured in int8 at batch 8: 14 % less time for a BERT of 6 layers, 6 % for a ViT of 12.
Each number that is left is computed as before.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper

from compress.exporting.graph import Graph, attribute

ROW_AXIS = 1
BY_ELEMENT = frozenset(
    {
        "Add",
        "Cast",
        "Clip",
        "DequantizeLinear",
        "Div",
        "Erf",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
    }
    | {"Mul", "Pow", "QuantizeLinear", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh"}
)
Shape = tuple[int | str | None, ...]


def compute_rows_that_are_read(proto: ModelProto) -> None:
    """Move a `Gather` of one row of (batch, rows, width) up through what computes each row by itself, in place."""
    graph = Graph(proto.graph)
    selections = [node for node in graph.nodes if _selects_one_row(graph, node)]
    if not selections:
        return
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes = {value.name: _sizes(value) for value in (*inferred.input, *inferred.value_info)}
    for selection in selections:
        _Narrowing(graph, shapes, selection).run()
    graph.write()


def _selects_one_row(graph: Graph, node: NodeProto) -> bool:
    index = graph.arrays.get(node.input[1]) if node.op_type == "Gather" else None
    return index is not None and index.ndim == 0 and attribute(node, "axis", 0) == ROW_AXIS


class _Narrowing:
    """What one selection leaves to compute."""

    def __init__(self, graph: Graph, shapes: dict[str, Shape], selection: NodeProto) -> None:
        self.graph, self.shapes, self.selection = graph, shapes, selection
        self.writers, self.readers = graph.writers(), graph.readers()
        index = int(graph.arrays[selection.input[1]])
        self.index = graph.add_array(f"row_{index}", np.array([index], np.int64))

    def run(self) -> None:
        narrow = self._narrow_tensors()
        if not narrow or self.selection.input[0] not in narrow:
            return
        for node in list(self.graph.nodes):
            if node.output[0] not in narrow:
                continue
            for i, name in enumerate(node.input):
                axis = self._row_axis(node, i)
                if name and name not in narrow and axis is not None:
                    node.input[i] = self._row_of(name, axis)
        self.selection.input[1] = self.graph.add_array("row_of_one", np.array(0, np.int64))

    def _narrow_tensors(self) -> set[str]:
        """Tensors of which only the row is read: found from the selection towards the inputs."""
        narrow: set[str] = set()
        for node in reversed(self.graph.sorted_nodes()):
            name = node.output[0] if len(node.output) == 1 else ""
            behind = self.readers[name]
            if not behind or name in self.graph.outputs or not self._is_row_by_row(node):
                continue
            if all(
                reader is self.selection or (reader.output[0] in narrow and self._reads_as_rows(reader, name))
                for reader in behind
            ):
                narrow.add(name)
        return narrow

    def _reads_as_rows(self, node: NodeProto, name: str) -> bool:
        """Whether each place at which an operator reads a tensor needs the row alone."""
        return all(self._row_axis(node, i) == ROW_AXIS for i, item in enumerate(node.input) if item == name)

    def _is_row_by_row(self, node: NodeProto) -> bool:
        """Whether each row of (batch, rows, width) that an operator writes depends on that row of what it reads."""
        shape = self.shapes.get(node.output[0], ())
        if len(shape) != 3 or shape[ROW_AXIS] in (None, 1):
            return False
        if node.op_type in BY_ELEMENT:
            return all(self._fits(name, shape) for name in node.input if name)
        if node.op_type == "LayerNormalization":
            return attribute(node, "axis", -1) in (-1, 2) and self._fits(node.input[0], shape)
        if node.op_type == "MatMul":
            return self._rank(node.input[1]) == 2 and self._fits(node.input[0], shape)
        if node.op_type == "Attention":
            mask = node.input[3] if len(node.input) > 3 else ""
            plain = not attribute(node, "is_causal", 0) and len([name for name in node.input[4:] if name]) == 0
            return plain and self._fits(node.input[0], shape) and (not mask or self._rank(mask) == 4)
        return False

    def _row_axis(self, node: NodeProto, position: int) -> int | None:
        """The axis on which an operator reads rows at one of its inputs, None if it needs the whole."""
        name = node.input[position]
        if node.op_type == "Attention":
            if position == 3:
                sizes = self._shape(name)
                return 2 if sizes[2] != 1 else None
            return ROW_AXIS if position == 0 else None
        if node.op_type not in BY_ELEMENT and position > 0:
            return None
        sizes = self._shape(name)
        return ROW_AXIS if len(sizes) == 3 and sizes[ROW_AXIS] != 1 else None

    def _fits(self, name: str, shape: Shape) -> bool:
        """Whether a tensor has the rows of `shape`, or the same values for each of them."""
        sizes = self._shape(name)
        if len(sizes) == 3:
            return sizes[ROW_AXIS] in (1, shape[ROW_AXIS])
        return name in self.graph.arrays and len(sizes) < 2

    def _rank(self, name: str) -> int:
        return len(self._shape(name))

    def _shape(self, name: str) -> Shape:
        """Sizes of a tensor; () where they are not known, which is also the shape of a single number."""
        return self.graph.arrays[name].shape if name in self.graph.arrays else self.shapes.get(name, ())

    def _row_of(self, name: str, axis: int) -> str:
        row = f"{name}_row_of_axis_{axis}_{self.index}"
        if row not in self.writers:
            node = helper.make_node("Gather", [name, self.index], [row], row, axis=axis)
            self.graph.nodes.append(node)
            self.writers[row] = node
        return row


def _sizes(value: onnx.ValueInfoProto) -> Shape:
    """Numbers, names of free axes, None for axes of which nothing is known; () if the rank is not known."""
    axes = value.type.tensor_type.shape.dim
    return tuple(axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None for axis in axes)
