"""Small ONNX graphs that hold one kind of layer at many channel counts, side by side, so that a runtime can time each.

Values are made up: a layer's time does not depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from compress.exporting.emissions.ort_x86_avx2 import HIGHEST, LOWEST
from compress.exporting.torch_onnx import DEFAULT_OPSET
from compress.pruning.latency.kinds import LayerKind

MARK = "point"
"""What the tensors and operators of the n-th layer begin with, before its number."""
IR_VERSION = 10


class _Builder:
    """An ONNX graph in the making."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.random = np.random.default_rng(0)

    def constant(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def input(self, name: str, shape: Sequence[int]) -> str:
        """A float input, as an int8 graph has it behind quantization."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))
        return self.rounded(name, np.int8(0)) if self.int8 else name

    def rounded(self, name: str, zero_point: np.int8) -> str:
        scale, zero = self.constant(f"{name}_scale", np.float32(0.05)), self.constant(f"{name}_zero", zero_point)
        quantized = self.node("QuantizeLinear", [name, scale, zero], f"{name}_quantized")
        return self.node("DequantizeLinear", [quantized, scale, zero], f"{name}_rounded")

    def weight(self, name: str, shape: Sequence[int], axis: int) -> str:
        if not self.int8:
            return self.constant(name, self.random.standard_normal(shape).astype(np.float32) / 16)
        values = self.constant(f"{name}_int8", self.random.integers(LOWEST, HIGHEST + 1, shape).astype(np.int8))
        scales = self.constant(f"{name}_scale", np.full(shape[axis], 1e-3, np.float32))
        zeros = self.constant(f"{name}_zero", np.zeros(shape[axis], np.int8))
        return self.node("DequantizeLinear", [values, scales, zeros], name, axis=axis)

    def model(self) -> ModelProto:
        graph = helper.make_graph(self.nodes, "layers", self.inputs, self.outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", DEFAULT_OPSET)], ir_version=IR_VERSION)


def layers_model(kind: LayerKind, points: Sequence[tuple[int, int]], batch: int, int8: bool) -> ModelProto:
    """A graph with one layer of `kind` for each (input channels, output channels) of `points`.

    With `int8` it is a canonical graph (signed, Q/DQ), of which emissions are made; attention is float in both.
    """
    build = _Builder(int8 and kind.operator != "attention")
    for number, (inputs, outputs) in enumerate(points):
        _WRITERS[kind.operator](build, f"{MARK}{number}", kind, batch, inputs, outputs)
    return build.model()


def _conv(build: _Builder, name: str, kind: LayerKind, batch: int, inputs: int, outputs: int) -> None:
    transposed, depthwise = kind.operator == "conv_transpose", kind.operator == "depthwise"
    groups = inputs if depthwise else kind.groups
    x = build.input(f"{name}_x", (batch, inputs, *kind.size))
    shape = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)
    axis = 1 if transposed else 0
    weight = build.weight(f"{name}_weight", (*shape, *kind.kernel), axis)
    bias = build.constant(f"{name}_bias", np.zeros(outputs, np.float32))
    y = build.node(
        "ConvTranspose" if transposed else "Conv", [x, weight, bias], f"{name}_layer", kernel_shape=kind.kernel,
        strides=kind.stride, pads=kind.padding * 2, dilations=kind.dilation, group=groups,
    )  # fmt: skip
    _finish(build, build.node("Relu", [y], f"{name}_relu"), len(kind.size) + 2, np.int8(-128))


def _linear(build: _Builder, name: str, kind: LayerKind, batch: int, inputs: int, outputs: int) -> None:
    rows = kind.size[0]
    x = build.input(f"{name}_x", (batch, rows, inputs) if rows > 1 else (batch, inputs))
    weight = build.weight(f"{name}_weight", (inputs, outputs), 1)
    bias = build.constant(f"{name}_bias", np.zeros(outputs, np.float32))
    if rows > 1:
        product = build.node("MatMul", [x, weight], f"{name}_layer")
        _finish(build, build.node("Add", [product, bias], f"{name}_sum"), 3, np.int8(0))
    else:
        _finish(build, build.node("Gemm", [x, weight, bias], f"{name}_layer"), 2, np.int8(0))


def _attention(build: _Builder, name: str, kind: LayerKind, batch: int, inputs: int, outputs: int) -> None:
    sequences, tokens = kind.size
    heads = kind.heads or max(1, inputs // kind.head)
    many, width = batch * sequences, kind.head or max(1, inputs // heads)
    query, value = (build.input(f"{name}_{what}", (many, heads, tokens, width)) for what in ("query", "value"))
    key = build.input(f"{name}_key", (many, heads, width, tokens))
    scores = build.node("MatMul", [query, key], f"{name}_layer")
    shares = build.node("Softmax", [scores], f"{name}_layer_softmax", axis=-1)
    _finish(build, build.node("MatMul", [shares, value], f"{name}_layer_values"), 4, np.int8(0))


def _finish(build: _Builder, tensor: str, rank: int, zero_point: np.int8) -> None:
    output = build.rounded(tensor, zero_point) if build.int8 else tensor
    build.outputs.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank))


_WRITERS = {
    "conv": _conv,
    "depthwise": _conv,
    "conv_transpose": _conv,
    "linear": _linear,
    "attention": _attention,
}
