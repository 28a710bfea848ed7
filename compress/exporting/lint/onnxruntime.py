"""Rules for ONNX Runtime's CPU provider: what keeps it from running an int8 file with its integer kernels.

Read in its source (core/optimizer/qdq_transformer): it fuses operators between DequantizeLinear and QuantizeLinear into
integer ones if types, scales and places are what its selectors expect, and leaves them in float otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from compress.exporting.graph import attribute
from compress.exporting.lint.finding import Check
from compress.exporting.lint.structure import Faults
from compress.exporting.lint.view import MOVES, WEIGHTED, View

TYPES: dict[int, str] = {
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.INT16: "int16",
    TensorProto.UINT16: "uint16",
}
RECTIFIERS = frozenset({"Clip", "Relu"})


def activations_of(wanted: int) -> Check:
    """Activations in another type of integer than the processor's kernels take."""

    def check(view: View) -> Faults:
        for node in view.activation_pairs():
            kind = view.quantization(node).type
            if kind != wanted:
                yield view.label(node), f"activations are {TYPES.get(kind, f'type {kind}')} and not {TYPES[wanted]}"

    return check


def signed_weights(view: View) -> Faults:
    """Weights of int8 layers that are not int8 with zero point 0."""
    for node in integer_layers(view):
        dequantize = view.integer_weights(node)
        if dequantize is None:
            continue
        found = view.quantization(dequantize)
        if found.type != TensorProto.INT8:
            yield view.label(node), f"its weights are {TYPES.get(found.type, f'type {found.type}')} and not int8"
        elif found.zero_point is not None and found.zero_point.any():
            yield view.label(node), "its weights have a zero point"


def seven_bits(view: View) -> Faults:
    """Weights beyond 7 bits: two of their products with uint8 do not fit 16 bits."""
    for node in view.weighted:
        dequantize = view.integer_weights(node)
        integers = None if dequantize is None else view.integers(dequantize)
        if integers is not None and integers.size and (integers.min() < -64 or integers.max() > 63):
            yield view.label(node), f"its weights reach from {integers.min()} to {integers.max()}, beyond -64 to 63"


def bias_scales(view: View) -> Faults:
    """Biases of int32 whose scale is not that of the input times that of the weights: kernels take it for granted."""
    for node in integer_layers(view):
        bias = view.writers.get(node.input[2]) if len(node.input) > 2 else None
        data, weights = view.dequantize(node.input[0]), view.integer_weights(node)
        if bias is None or bias.op_type != "DequantizeLinear" or data is None or weights is None:
            continue
        scales = [view.quantization(item).scale for item in (data, weights, bias)]
        if any(scale is None for scale in scales):
            continue
        first, second, found = (scale.astype(np.float64).reshape(-1) for scale in scales if scale is not None)
        zero_point = view.quantization(bias).zero_point
        if not np.allclose(found, first * second, rtol=1e-5, atol=0) or (zero_point is not None and zero_point.any()):
            yield view.label(node), "the scale of its bias is not that of its input times that of its weights"


def one_reader(view: View) -> Faults:
    """A DequantizeLinear of activations that several operators read."""
    for node in view.of("DequantizeLinear"):
        count = len(view.readers[node.output[0]]) + (node.output[0] in view.outputs)
        if count > 1 and not view.is_constant(node.input[0]):
            yield view.label(node), f"is read {count} times"


def quantized_outputs(view: View) -> Faults:
    """Convolutions that read int8 and whose output, behind a relu or clip, is not quantized."""
    for node in integer_layers(view):
        if node.op_type == "Conv" and not all(item.op_type == "QuantizeLinear" for item in read_by(view, node)):
            yield view.label(node), "reads int8, and its output is not quantized: it runs in float"


def foldable_rectifiers(view: View) -> Faults:
    """A relu or clip that lets less through than the quantization behind it, so that it cannot be left out."""
    for node in view.of("Clip", "Relu"):
        layer = view.writers.get(node.input[0])
        behind = view.readers[node.output[0]]
        bounds = bounds_of(view, node)
        if layer is None or layer.op_type not in (*WEIGHTED, "Add", "Mul") or bounds is None or not behind:
            continue
        if any(item.op_type != "QuantizeLinear" for item in behind):
            continue
        ranges = [found for item in behind if (found := view.quantization(item).range()) is not None]
        if any(low < bounds[0] or high > bounds[1] * (1 + 1e-6) for low, high in ranges):
            low, high = ranges[0]
            yield (
                view.label(node),
                f"lets {bounds[0]:.3g} to {bounds[1]:.3g} through, and what follows keeps {low:.3g} to {high:.3g}: "
                f"{view.label(layer)} runs in float",
            )


def bounds_of(view: View, node: NodeProto) -> tuple[float, float] | None:
    """What a relu or clip lets through, None if that is computed as the file runs."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    bounds = [attribute(node, "min", -np.inf), attribute(node, "max", np.inf)]
    for i, name in enumerate(node.input[1:3]):
        if name and name not in view.arrays:
            return None
        if name:
            bounds[i] = float(view.arrays[name].reshape(-1)[0])
    return float(bounds[0]), float(bounds[1])


def same_scales(view: View) -> Faults:
    """Operators that move values between DequantizeLinear and QuantizeLinear of unlike scales.

    A concatenation of rectified and other tensors has to: a relu folds only into a range that begins at 0.
    """
    for node in view.of("Concat", *MOVES):
        data = list(node.input) if node.op_type == "Concat" else list(node.input[:1])
        before = [view.writers.get(name) for name in data]
        behind = view.readers[node.output[0]]
        if not behind or any(item.op_type != "QuantizeLinear" for item in behind) or node.output[0] in view.outputs:
            continue
        if any(item is None or item.op_type != "DequantizeLinear" for item in before):
            continue
        around = [view.quantization(item) for item in (*before, *behind) if item is not None]
        begins_at_zero = {found[0] == 0 for item in around[: len(before)] if (found := item.range()) is not None}
        if len(begins_at_zero) <= 1 and not all(item.same(around[0]) for item in around):
            yield view.label(node), f"{node.op_type} reads and writes int8 with unlike scales"


def mean_pools(view: View) -> Faults:
    """A ReduceMean between DequantizeLinear and QuantizeLinear: it has no int8 kernel, GlobalAveragePool has."""
    for node in view.of("ReduceMean"):
        behind = view.readers[node.output[0]]
        if view.dequantize(node.input[0]) is not None and behind and all(b.op_type == "QuantizeLinear" for b in behind):
            yield view.label(node), "ReduceMean between int8 tensors runs in float"


def float_weights_between(view: View) -> Faults:
    """Layers with float weights between DequantizeLinear and QuantizeLinear: ONNX Runtime quantizes the weights."""
    for node in view.weighted:
        if view.integer_weights(node) is not None or view.dequantize(node.input[0]) is None:
            continue
        behind = read_by(view, node)
        if behind and all(item is not None and item.op_type == "QuantizeLinear" for item in behind):
            yield view.label(node), "its weights are float between int8 tensors, and ONNX Runtime will round them too"


def integer_layers(view: View) -> Iterator[NodeProto]:
    """Weighted operators that read int8 activations and weights."""
    return (node for node in view.weighted if view.is_integer_layer(node))


def read_by(view: View, node: NodeProto) -> list[NodeProto]:
    """What reads an operator's output, behind a relu or clip that alone reads it; a graph output reads it too."""
    name = node.output[0]
    while True:
        readers = view.readers[name]
        if name in view.outputs:
            return [*readers, NodeProto()]
        if len(readers) != 1 or readers[0].op_type not in RECTIFIERS:
            return readers
        name = readers[0].output[0]
