"""Rules for float files: no integers, one type of float, inputs and outputs that callers expect."""

from __future__ import annotations

from onnx import TensorProto

from compress.exporting.element_types import NAMES, allowed
from compress.exporting.lint.finding import Check
from compress.exporting.lint.quantization import integer_operators
from compress.exporting.lint.structure import Faults
from compress.exporting.lint.view import View

WORDS: dict[int, str] = {
    TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}  # fmt: skip


def no_quantization(view: View) -> Faults:
    """Anything int8 in a float file."""
    for node in view.of("QuantizeLinear", "DequantizeLinear"):
        yield view.label(node), f"{node.op_type} in a float file"
    yield from integer_operators(view)


def floats_of(wanted: int) -> Check:
    """Tensors of another type of float than the file's, or float32."""

    def check(view: View) -> Faults:
        for node in view.nodes:
            for name in node.output:
                kind = view.type_of(name)
                if kind in WORDS and kind not in (wanted, TensorProto.FLOAT):
                    yield view.label(node), f"writes {WORDS[kind]} in a file of {WORDS[wanted]}"

    return check


def wide_weights(wanted: int) -> Check:
    """Weights of float32 in a file of 16 bits, where the operator could read 16."""

    def check(view: View) -> Faults:
        for node in view.nodes:
            for i, name in enumerate(node.input):
                wide = name in view.arrays and view.type_of(name) == TensorProto.FLOAT and view.arrays[name].ndim > 1
                if wide and NAMES[wanted] in allowed(node, view.opset, i):
                    yield view.label(node), f"reads {name} in float32"

    return check


def holds(wanted: int) -> Check:
    """A file of another type of float altogether."""

    def check(view: View) -> Faults:
        if view.outermost and not any(view.type_of(name) == wanted for node in view.nodes for name in node.output):
            yield "the file", f"computes nothing in {WORDS[wanted]}"

    return check


def wide_ends(view: View) -> Faults:
    """Inputs and outputs of 16 bits, which callers with NumPy arrays of float32 cannot feed or read."""
    if view.outermost:
        for value in (*view.graph.input, *view.graph.output):
            kind = value.type.tensor_type.elem_type
            if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
                yield value.name, f"is {WORDS[kind]}"


def defined_types(view: View) -> Faults:
    """Operators that read a type of float which their definition in this operator set does not allow."""
    for node in view.nodes:
        for i, name in enumerate(node.input):
            kind = view.type_of(name)
            found = allowed(node, view.opset, i) if kind in NAMES else frozenset()
            if found and NAMES[kind] not in found:
                yield view.label(node), f"{node.op_type} reads {WORDS[kind]}, which opset {view.opset} does not define"
