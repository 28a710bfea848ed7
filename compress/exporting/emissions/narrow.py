"""Float32 becomes a type of 16 bits: weights, biases and activations; graph inputs and outputs stay float32.

ONNX Runtime's own converter (`onnxruntime.transformers.float16`) is not used: it writes no bfloat16, its graphs are not
in an order that ONNX's checker accepts, and it keeps Min, Max and TopK in float32, whatever the opset allows. A test
holds this one against it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_dtypes import bfloat16
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from compress.errors import StageError
from compress.exporting.element_types import NAMES, allowed, element_types, opset
from compress.exporting.graph import Array, Graph, nested, reads

FLOAT = TensorProto.FLOAT
DTYPES: dict[int, Any] = {TensorProto.FLOAT16: np.float16, TensorProto.BFLOAT16: bfloat16, FLOAT: np.float32}
GREATEST: dict[int, float] = {TensorProto.FLOAT16: 65504.0, TensorProto.BFLOAT16: 3.3895e38}
FIRST_WITHOUT_LISTING = 4
"""The version of ONNX's file format in which weights need not be listed among the inputs."""
MINUS_INFINITY = 1e30
"""Constants beyond stand for infinity: what masks add to logits."""


def narrow(proto: ModelProto, to: int) -> ModelProto:
    """The graph with element type `to` (TensorProto.FLOAT16 or BFLOAT16) wherever an operator's definition allows it.

    What allows it not (the scales of a Resize, a Range in float16) stays float32 between Casts, and so do graphs within
    the graph (of If, Loop, Scan).

    Raises:
        StageError: a weight is too large for the type.
    """
    result = ModelProto()
    result.CopyFrom(proto)
    _take_weights_from_inputs(result)
    graph = Graph(result.graph)
    version = opset(result)
    casts = _Casts(graph, element_types(proto), to)
    for node in graph.nodes:
        if nested(node):
            for name in filter(casts.is_float, reads(node)):
                graph.rename_reads(name, casts.read(name, FLOAT), [node])
            continue
        for i, name in enumerate(node.input):
            if casts.is_float(name):
                node.input[i] = casts.read(name, to if NAMES[to] in allowed(node, version, i) else FLOAT)
        _set_constant_type(node, to)
        for i, name in enumerate(node.output):
            if casts.is_float(name):
                casts.now[name] = to if NAMES[to] in allowed(node, version, i, output=True) else FLOAT
    for name in graph.outputs:
        if casts.is_float(name) and casts.now.get(name) == to:
            _cast_output(graph, casts, name)
    graph.nodes = [*casts.nodes, *graph.nodes]
    graph.arrays |= casts.arrays
    del result.graph.value_info[:]
    graph.write()
    return result


def _take_weights_from_inputs(proto: ModelProto) -> None:
    """Old files list their weights among the inputs as well, where they would stay float32."""
    weights = {item.name for item in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    proto.ir_version = max(int(proto.ir_version), FIRST_WITHOUT_LISTING)


class _Casts:
    """What each tensor is now, and the Casts and narrowed arrays that its readers need."""

    def __init__(self, graph: Graph, types: dict[str, int], to: int) -> None:
        self.graph, self.types, self.to = graph, types, to
        self.now: dict[str, int] = {}
        self.nodes: list[NodeProto] = []
        self.arrays: dict[str, Array] = {}

    def is_float(self, name: str) -> bool:
        """Whether a tensor was float32."""
        return self.types.get(name) == FLOAT

    def read(self, name: str, wanted: int) -> str:
        """The name under which a tensor of another type is read as `wanted`."""
        if self.now.get(name, FLOAT) == wanted:
            return name
        other = f"{name}_{'float32' if wanted == FLOAT else 'narrow'}"
        if name in self.graph.arrays:
            self.arrays[other] = narrowed(name, self.graph.arrays[name], wanted)
        elif all(other not in node.output for node in self.nodes):
            self.nodes.append(helper.make_node("Cast", [name], [other], f"{other}_cast", to=wanted))
        return other


def narrowed(name: str, array: Array, to: int) -> Array:
    """An array in another type; constants that stand for infinity become the type's greatest number.

    Raises:
        StageError: another of its numbers is beyond the type's greatest.
    """
    greatest = GREATEST[to]
    size = np.abs(array)
    finite = np.isfinite(array)
    if (finite & (size > greatest) & (size < MINUS_INFINITY)).any():
        raise StageError(
            f"export: {name} holds {float(size[finite & (size < MINUS_INFINITY)].max()):.3g}, and float16 ends at "
            f"{greatest:.0f}: emit bf16 or fp32 instead"
        )
    result: Array = np.where(finite, np.clip(array, -greatest, greatest), array).astype(DTYPES[to])
    return result


def _set_constant_type(node: NodeProto, to: int) -> None:
    """Operators that say in an attribute what they write say `to` instead of float32."""
    for item in node.attribute:
        if item.name in ("to", "dtype", "output_dtype") and item.i == FLOAT:
            item.i = to
        elif item.name == "value" and item.t.data_type == FLOAT and node.op_type in ("Constant", "ConstantOfShape"):
            array = numpy_helper.to_array(item.t)
            item.t.CopyFrom(numpy_helper.from_array(narrowed(node.output[0], array, to)))


def _cast_output(graph: Graph, casts: _Casts, name: str) -> None:
    inner = f"{name}_narrow_output"
    for node in graph.nodes:
        for names in (node.input, node.output):
            for i, item in enumerate(names):
                if item == name:
                    names[i] = inner
    for node in casts.nodes:
        if node.input[0] == name:
            node.input[0] = inner
    casts.nodes.append(helper.make_node("Cast", [inner], [name], f"{name}_cast", to=FLOAT))
    casts.now[name] = FLOAT
