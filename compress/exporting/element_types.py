"""Element types in ONNX graphs: of tensors by inference, and those that an operator's definition allows."""

from __future__ import annotations

import functools

import onnx
from onnx import ModelProto, NodeProto, TensorProto, defs, version_converter

from compress.errors import StageError

NAMES: dict[int, str] = {
    TensorProto.FLOAT: "tensor(float)",
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BFLOAT16: "tensor(bfloat16)",
    TensorProto.DOUBLE: "tensor(double)",
}
"""Element type -> what definitions of operators call it."""
LARGEST_KEPT = 4096
"""Bytes of a constant that inference may look at, such as a shape."""


def opset(proto: ModelProto) -> int:
    """The version of ONNX's own operators that a graph is written in; 0 if it imports none."""
    return next((int(item.version) for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)


def at_least(proto: ModelProto, version: int) -> ModelProto:
    """The graph in an operator set of at least `version`; itself if it is in one.

    Raises:
        StageError: it holds an operator that ONNX's converter cannot write in the newer set.
    """
    if opset(proto) >= version:
        return proto
    try:
        return version_converter.convert_version(proto, version)
    except Exception as error:
        raise StageError(
            f"export: the graph cannot be raised from opset {opset(proto)} to {version}, which this file needs "
            f"({str(error).splitlines()[0]}); set `opset: {version}` on the export stage"
        ) from error


def element_types(proto: ModelProto) -> dict[str, int]:
    """Tensor -> its element type, for all whose type can be inferred; raises as `inferred`."""
    graph = inferred(proto).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return known | {item.name: item.data_type for item in graph.initializer}


def inferred(proto: ModelProto) -> ModelProto:
    """A graph of the same operators with the types and shapes of its tensors, without the numbers of its weights.

    Raises:
        onnx.shape_inference.InferenceError: types or shapes that the graph declares contradict its operators.
    """
    light = ModelProto()
    light.CopyFrom(proto)
    for item in light.graph.initializer:
        if len(item.raw_data) > LARGEST_KEPT:
            item.ClearField("raw_data")
    return onnx.shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)


def allowed(node: NodeProto, version: int, index: int, *, output: bool = False) -> frozenset[str]:
    """Types that an operator's definition allows for its input (or output) `index`; none if there is no definition."""
    return _allowed(node.op_type, node.domain, version, index, output)


@functools.cache
def _allowed(operator: str, domain: str, version: int, index: int, output: bool) -> frozenset[str]:
    if domain not in ("", "ai.onnx") or not defs.has(operator, "") or not version:
        return frozenset()
    try:
        schema = defs.get_schema(operator, version, "")
    except defs.SchemaError:
        return frozenset()
    slots = schema.outputs if output else schema.inputs
    if not slots:
        return frozenset()
    slot = slots[min(index, len(slots) - 1)]
    return frozenset(slot.types)


def computes_in_float16(proto: ModelProto) -> bool:
    """Whether a file holds numbers of float16."""
    return any(item.data_type == TensorProto.FLOAT16 for item in proto.graph.initializer)
