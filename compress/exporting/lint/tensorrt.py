"""Rules for TensorRT, version 11, whose networks are strongly typed: precision is what the graph says.

From its documentation (explicit quantization) and the parser's source (onnx-tensorrt).
"""

from __future__ import annotations

from onnx import NodeProto, TensorProto

from compress.exporting.lint.onnxruntime import RECTIFIERS, TYPES
from compress.exporting.lint.structure import Faults
from compress.exporting.lint.view import MOVES, WEIGHTED, View

POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
JOINS = frozenset({"Concat"})
PASSES = MOVES | RECTIFIERS | JOINS | {"Pad"}


def zero_points(view: View) -> Faults:
    """Zero points other than 0."""
    for node in view.of("QuantizeLinear", "DequantizeLinear"):
        zero_point = view.quantization(node).zero_point
        if zero_point is not None and zero_point.astype("float32").any():
            yield view.label(node), "has a zero point that is not 0"


def unsigned(view: View) -> Faults:
    """Integers that TensorRT does not read: uint8, and those of 16 bits."""
    refused: dict[int, str] = {**TYPES, TensorProto.UINT4: "uint4"}
    for node in view.of("QuantizeLinear", "DequantizeLinear"):
        kind = view.quantization(node).type
        if kind in refused and kind != TensorProto.INT8:
            yield view.label(node), f"is {refused[kind]}"


def float64(view: View) -> Faults:
    """Tensors of float64."""
    for node in view.nodes:
        if any(view.type_of(name) == TensorProto.DOUBLE for name in node.output):
            yield view.label(node), "writes float64"


def outputs_for_float(view: View) -> Faults:
    """A layer's output that is quantized although only float operators read it."""
    for node in view.of("QuantizeLinear"):
        layer = view.source(node.input[0], frozenset(RECTIFIERS))
        if layer is None or layer.op_type not in (*WEIGHTED, "Add"):
            continue
        if not _reaches_integer(view, node.output[0]):
            yield view.label(node), f"quantizes the output of {view.label(layer)}, which no int8 operator reads"


def _reaches_integer(view: View, name: str) -> bool:
    pending, seen = [name], {name}
    while pending:
        name = pending.pop()
        for node in view.readers[name]:
            if node.op_type in POOLS or view.is_integer_layer(node):
                return True
            if node.op_type == "Add" and any(_is_layer(view, other) for other in node.input if other != name):
                return True
            passes = node.op_type in PASSES or node.op_type in ("DequantizeLinear", "QuantizeLinear")
            if passes and node.output[0] not in seen:
                seen.add(node.output[0])
                pending.append(node.output[0])
    return False


def _is_layer(view: View, name: str) -> bool:
    writer = view.writers.get(name)
    return writer is not None and writer.op_type in WEIGHTED


def residual_sums(view: View) -> Faults:
    """Sums behind an int8 convolution of which not just the skip branch is quantized: conv + add + relu do not fuse."""
    for node in view.of("Add"):
        if any(view.is_constant(name) for name in node.input):
            continue
        quantized = [_quantized_layer(view, name) for name in node.input]
        plain = [_float_layer(view, name) for name in node.input]
        others = [view.dequantize(name) is not None or _is_padded(view, name) for name in node.input]
        if any(quantized) and all(others) and not any(plain):
            yield view.label(node), "both of its branches are quantized"
        elif any(plain) and not any(others):
            yield view.label(node), "its skip branch is not quantized"


def _quantized_layer(view: View, name: str) -> bool:
    """Whether a tensor is a convolution's output, quantized for this reader alone."""
    node = view.writers.get(name)
    if node is None or node.op_type != "DequantizeLinear" or len(view.readers[name]) != 1:
        return False
    quantize = view.writers.get(node.input[0])
    layer = None if quantize is None else view.writers.get(quantize.input[0])
    return layer is not None and layer.op_type == "Conv" and view.is_integer_layer(layer)


def _float_layer(view: View, name: str) -> bool:
    layer = view.writers.get(name)
    return layer is not None and layer.op_type == "Conv" and view.is_integer_layer(layer)


def _is_padded(view: View, name: str) -> bool:
    found = view.source(name, MOVES | {"Pad"})
    return found is not None and found.op_type == "DequantizeLinear"


def same_scales(view: View) -> Faults:
    """Joins, pools and resizes between int8 tensors whose scales are not all the same."""
    for node in view.of(*JOINS, *MOVES):
        behind = view.readers[node.output[0]]
        data = list(node.input) if node.op_type in JOINS else list(node.input[:1])
        before = [view.writers.get(name) for name in data]
        integers = [item for item in before if item is not None and item.op_type == "DequantizeLinear"]
        if not behind or not integers or any(item.op_type != "QuantizeLinear" for item in behind):
            continue
        around = [view.quantization(item) for item in (*integers, *behind)]
        if len(integers) < len(before) or not all(item.same(around[0]) for item in around):
            yield view.label(node), f"{node.op_type} reads and writes int8 with unlike scales"


def quantized_once(view: View) -> Faults:
    """A tensor that is quantized more than once with one scale."""
    for name, readers in view.readers.items():
        found = [node for node in readers if node.op_type == "QuantizeLinear" and node.input[0] == name]
        repeated = [n for i, n in enumerate(found) if any(_alike(view, n, other) for other in found[:i])]
        for node in repeated:
            yield view.label(node), f"quantizes {name} again with the same scale"


def _alike(view: View, one: NodeProto, other: NodeProto) -> bool:
    return view.quantization(one).same(view.quantization(other))
