"""A graph as the rules of linters see it: who writes and reads what, constants, types, and how tensors are quantized.

Files come from any tool: scales may be written by Constant operators, zero points may be left out, weights may be
quantized by QuantizeLinear in the file, and graphs may hold graphs (If, Loop, Scan), each of which gets its own view.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from compress.exporting.element_types import inferred, opset
from compress.exporting.graph import Array, attribute, nested, reads

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
MOVES = frozenset(
    {"Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Resize", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that give each value of their first input on as it is."""
FOLDS = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "Reshape", "Transpose", "Unsqueeze"})
"""Operators that leave a constant a constant."""


@dataclass(frozen=True)
class Quantization:
    """How a QuantizeLinear or DequantizeLinear rounds; `scale` or `zero_point` is None where it is not a constant.

    `type` is the integers' element type. `axis` is None for one scale per tensor.
    """

    scale: Array | None
    zero_point: Array | None
    type: int
    axis: int | None

    def range(self) -> tuple[float, float] | None:
        """The least and greatest value of a tensor with one scale, None if they are not known or not 8 bits."""
        if self.axis is not None or self.scale is None or self.zero_point is None or self.scale.size != 1:
            return None
        if self.type not in (TensorProto.INT8, TensorProto.UINT8):
            return None
        low, high = (-128, 127) if self.type == TensorProto.INT8 else (0, 255)
        zero_point, scale = int(self.zero_point.reshape(-1)[0]), float(self.scale.reshape(-1)[0])
        return (low - zero_point) * scale, (high - zero_point) * scale

    def same(self, other: Quantization) -> bool:
        """Whether two are known to round alike, or one is not known."""
        pairs = ((self.scale, other.scale), (self.zero_point, other.zero_point))
        known = [(one, two) for one, two in pairs if one is not None and two is not None]
        return self.type == other.type and all(np.array_equal(one.reshape(-1), two.reshape(-1)) for one, two in known)


class View:
    """One graph of a file. A graph within a graph also sees what surrounds it."""

    def __init__(
        self, model: ModelProto, graph: GraphProto, values: dict[str, ValueInfoProto], around: View | None, place: str
    ) -> None:
        """`values` are the types of all tensors, `place` is put before the names of operators."""
        self.model, self.graph, self.place, self._values = model, graph, place, values
        self.nodes: list[NodeProto] = list(graph.node)
        self.outputs = {value.name for value in graph.output}
        self.opset = opset(model)
        self.arrays: dict[str, Array] = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        for node in self.nodes:
            value = attribute(node, "value") if node.op_type == "Constant" else None
            if isinstance(value, TensorProto):
                self.arrays[node.output[0]] = numpy_helper.to_array(value)
        self.writers = {name: node for node in self.nodes for name in node.output if name}
        if around is not None:
            self.arrays = around.arrays | self.arrays
            self.writers = around.writers | self.writers
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in reads(node):
                self.readers[name].append(node)

    @property
    def outermost(self) -> bool:
        """Whether this is the file's own graph."""
        return not self.place

    @cached_property
    def weighted(self) -> list[NodeProto]:
        """Operators with constant weights."""
        return [node for node in self.nodes if node.op_type in WEIGHTED and self.is_constant(node.input[1])]

    def of(self, *kinds: str) -> Iterator[NodeProto]:
        """The operators of some kinds."""
        return (node for node in self.nodes if node.op_type in kinds)

    def label(self, node: NodeProto) -> str:
        """What to call an operator."""
        name = node.name or f"the {node.op_type} that writes {next(iter(node.output), '?')}"
        return f"{self.place}{name}"

    def type_of(self, name: str) -> int:
        """Element type of a tensor, 0 if it is not known."""
        return self._values[name].type.tensor_type.elem_type if name in self._values else 0

    def rank_of(self, name: str) -> int | None:
        """How many axes a tensor has, if that is known."""
        if name in self.arrays:
            return self.arrays[name].ndim
        tensor = self._values[name].type.tensor_type if name in self._values else None
        return len(tensor.shape.dim) if tensor is not None and tensor.HasField("shape") else None

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a constant, or made of constants by what converts or reshapes them."""
        if name in self.arrays:
            return True
        writer = self.writers.get(name)
        if writer is None or writer.op_type not in FOLDS:
            return False
        return all(self.is_constant(item) for item in writer.input if item)

    def quantization(self, node: NodeProto) -> Quantization:
        """How a QuantizeLinear or DequantizeLinear rounds."""
        zero = node.input[2] if len(node.input) > 2 else ""
        kind: int = TensorProto.UINT8
        if zero:
            kind = self.type_of(zero)
        elif node.op_type == "DequantizeLinear":
            kind = self.type_of(node.input[0])
        elif (written := attribute(node, "output_dtype", 0)) or (written := self.type_of(node.output[0])):
            kind = written
        scale = self.arrays.get(node.input[1])
        axis = attribute(node, "axis", 1) if scale is not None and scale.size > 1 else None
        return Quantization(scale, self.arrays.get(zero) if zero else np.zeros(1, np.int8), kind, axis)

    def source(self, name: str, through: frozenset[str] = MOVES) -> NodeProto | None:
        """What writes a tensor's values, before operators that only move them."""
        writer = self.writers.get(name)
        while writer is not None and writer.op_type in through:
            writer = self.writers.get(writer.input[0])
        return writer

    def dequantize(self, name: str) -> NodeProto | None:
        """The DequantizeLinear that a tensor's values come from, if they do."""
        found = self.source(name)
        return found if found is not None and found.op_type == "DequantizeLinear" else None

    def activation_pairs(self) -> Iterator[NodeProto]:
        """QuantizeLinear and DequantizeLinear of what is no constant."""
        return (node for node in self.of("QuantizeLinear", "DequantizeLinear") if not self.is_constant(node.input[0]))

    def integer_weights(self, node: NodeProto) -> NodeProto | None:
        """The DequantizeLinear of a weighted operator's weights, None if they are float."""
        writer = self.dequantize(node.input[1])
        return writer if writer is not None and self.is_constant(writer.input[0]) else None

    def integers(self, dequantize: NodeProto) -> Array | None:
        """The stored integers of weights or of a bias, None if the file quantizes them as it runs."""
        return self.arrays.get(dequantize.input[0])

    def is_integer_layer(self, node: NodeProto) -> bool:
        """Whether a weighted operator reads int8 activations and weights."""
        return (
            node.op_type in WEIGHTED
            and self.dequantize(node.input[0]) is not None
            and self.dequantize(node.input[1]) is not None
        )


def views(model: ModelProto) -> list[View]:
    """The graph of a file, then those within it.

    Raises:
        onnx.shape_inference.InferenceError: types or shapes that the file declares contradict its operators.
    """
    values: dict[str, ValueInfoProto] = {}
    _collect(inferred(model).graph, values)
    return list(_views(model, model.graph, values, None, ""))


def _collect(graph: GraphProto, values: dict[str, ValueInfoProto]) -> None:
    for value in (*graph.input, *graph.value_info, *graph.output):
        values.setdefault(value.name, value)
    for item in graph.initializer:
        values[item.name] = onnx.helper.make_tensor_value_info(item.name, item.data_type, list(item.dims))
    for node in graph.node:
        for inner in nested(node):
            _collect(inner, values)


def _views(
    model: ModelProto, graph: GraphProto, values: dict[str, ValueInfoProto], around: View | None, place: str
) -> Iterator[View]:
    view = View(model, graph, values, around, place)
    yield view
    for node in graph.node:
        for number, inner in enumerate(nested(node)):
            yield from _views(model, inner, values, view, f"{place}{node.name or node.op_type}/{inner.name or number}/")
