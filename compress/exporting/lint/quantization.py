"""Rules for int8 files of any runtime: scales, pairs, weights."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from compress.exporting.graph import attribute
from compress.exporting.lint.structure import Faults
from compress.exporting.lint.view import View

OPERATORS = frozenset(
    {
        "ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul",
        "GatherBlockQuantized", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QGemm",
    }
)  # fmt: skip
"""Operators that compute with integers, besides those whose name begins with QLinear."""


def integer_operators(view: View) -> Faults:
    """Operators of the QOperator format or of dynamic quantization, in place of QuantizeLinear and DequantizeLinear."""
    for node in view.nodes:
        if node.op_type in OPERATORS or node.op_type.startswith("QLinear"):
            yield view.label(node), f"{node.op_type} computes with integers itself"


def float_file(view: View) -> Faults:
    """A file that none of the rules for int8 looks into, because nothing in it is int8."""
    rounds = ("QuantizeLinear", "DequantizeLinear")
    if view.outermost and not any(view.of(*rounds)) and not any(integer_operators(view)):
        yield "the file", "is a float file that holds nothing in int8"


def positive_scales(view: View) -> Faults:
    """Scales that are zero, negative, infinite or no number."""
    for node in view.of("QuantizeLinear", "DequantizeLinear"):
        scale = view.quantization(node).scale
        if scale is not None:
            numbers = scale.astype(np.float32)
            if not (np.isfinite(numbers) & (numbers > 0)).all():
                yield view.label(node), f"has a scale of {float(numbers.reshape(-1)[np.argmin(numbers)]):.3g}"


def constant_scales(view: View) -> Faults:
    """Scales or zero points that are computed as the file runs."""
    for node in view.of("QuantizeLinear", "DequantizeLinear"):
        if any(name and not view.is_constant(name) for name in node.input[1:3]):
            yield view.label(node), "takes a scale or zero point that is not a constant"


def activations_per_tensor(view: View) -> Faults:
    """Activations with a scale for each channel."""
    for node in view.activation_pairs():
        scale = view.quantization(node).scale
        if scale is not None and scale.size > 1:
            yield view.label(node), f"quantizes an activation with {scale.size} scales"


def weight_axis(view: View) -> Faults:
    """Weights with scales along another axis than that of the output channels."""
    for node in view.weighted:
        dequantize, wanted = view.integer_weights(node), output_axis(view, node)
        if dequantize is None or wanted is None or view.source(node.input[1], frozenset()) is not dequantize:
            continue
        axis, rank = view.quantization(dequantize).axis, view.rank_of(dequantize.input[0])
        if axis is not None and rank and axis % rank != wanted % rank:
            yield view.label(node), f"its weights have scales along axis {axis}, its output channels are axis {wanted}"


def output_axis(view: View, node: NodeProto) -> int | None:
    """The axis of a weighted operator's weights that counts its output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    rank = view.rank_of(node.input[1])
    return None if rank is None else rank - 1


def weights_per_channel(view: View) -> Faults:
    """Weights with one scale for all their channels."""
    for node in view.weighted:
        dequantize = view.integer_weights(node)
        scale = None if dequantize is None else view.quantization(dequantize).scale
        integers = None if dequantize is None else view.integers(dequantize)
        axis = output_axis(view, node)
        if scale is None or integers is None or axis is None or integers.ndim < 2:
            continue
        if scale.size == 1 and integers.shape[axis] > 1:
            yield view.label(node), f"its weights have one scale for {integers.shape[axis]} channels"


def equal_pairs(view: View) -> Faults:
    """Integers that are read with another scale or zero point than they were written with."""
    for node in view.of("DequantizeLinear"):
        writer = view.source(node.input[0])
        if writer is None or writer.op_type != "QuantizeLinear":
            continue
        if not view.quantization(writer).same(view.quantization(node)):
            yield view.label(node), f"reads what {view.label(writer)} writes with another scale, zero point or type"


def half_quantized(view: View) -> Faults:
    """Weighted operators of which only the activations or only the weights are int8."""
    for node in view.weighted:
        data, weights = view.dequantize(node.input[0]), view.integer_weights(node)
        if (data is None) != (weights is None):
            float_side, other = ("activations", "weights") if data is None else ("weights", "activations")
            yield view.label(node), f"its {other} are quantized and its {float_side} are not"


def rounded_biases(view: View) -> Faults:
    """Biases in int32."""
    for node in view.of("DequantizeLinear"):
        if view.quantization(node).type == TensorProto.INT32:
            yield view.label(node), "gives a bias of int32"
