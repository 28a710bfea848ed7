"""Reads a float ONNX graph as the neutral operators of `compress.quantization.operators`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from compress.exporting.graph import Graph, attribute, reads
from compress.quantization.operators import ROLES, Operator, Role

KINDS: dict[str, str] = {
    "Conv": "conv",
    "ConvTranspose": "conv_transpose",
    "Gemm": "linear",
    "MatMul": "linear",
    "Add": "add",
    "Sum": "add",
    "Mul": "mul",
    "Concat": "concat",
    "AveragePool": "average_pool",
    "GlobalAveragePool": "global_average_pool",
    "MaxPool": "max_pool",
    "Pad": "pad",
    "Reshape": "reshape",
    "Flatten": "reshape",
    "Squeeze": "reshape",
    "Unsqueeze": "reshape",
    "Identity": "reshape",
    "Resize": "resize_nearest",
    "Slice": "slice",
    "Gather": "slice",
    "Transpose": "transpose",
    "Relu": "relu",
    "Clip": "clip",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "hard_sigmoid",
    "LeakyRelu": "leaky_relu",
    "Gelu": "gelu",
    "LayerNormalization": "layer_norm",
    "Softmax": "softmax",
}
"""ONNX operator -> neutral operator. What is not listed is `other`."""
FLOATS = (TensorProto.FLOAT, TensorProto.UNDEFINED)


@dataclass(frozen=True)
class Layer:
    """An operator with constant weights.

    `product` is the tensor that the operator writes and `output` the same with a bias that is added by an operator of
    its own; `axis` is the axis of the weights that holds output channels, `bias` None where there is none.
    """

    name: str
    kind: str
    data: str
    product: str
    output: str
    weight: str
    axis: int
    bias: str | None = None


class Types:
    """Element types and shapes of a graph's tensors, as far as ONNX can tell."""

    def __init__(self, proto: ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
        self._values = {v.name: v.type.tensor_type for v in (*inferred.input, *inferred.value_info, *inferred.output)}

    def is_float(self, name: str) -> bool:
        """Whether a tensor holds float32, also where that is unknown."""
        return name not in self._values or self._values[name].elem_type in FLOATS

    def rank(self, name: str) -> int | None:
        """The number of axes, None where it is unknown."""
        value = self._values.get(name)
        return len(value.shape.dim) if value is not None and value.HasField("shape") else None

    def places(self, name: str) -> list[int | None] | None:
        """The sizes behind batch and channels, each None where it is unknown; None where the rank is."""
        value = self._values.get(name)
        if value is None or not value.HasField("shape"):
            return None
        return [axis.dim_value if axis.HasField("dim_value") else None for axis in value.shape.dim[2:]]


def read(graph: Graph, types: Types, ignore: Sequence[str] = ()) -> tuple[list[Operator], dict[str, Layer]]:
    """The operators on float tensors, in order, and the layers among them by what they write.

    `ignore` are globs of operator names; operators of those names stay in float.
    """
    reader = _Reader(graph, types)
    operators: list[Operator] = []
    layers: dict[str, Layer] = {}
    for node in graph.sorted_nodes():
        if id(node) in reader.absorbed or not any(types.is_float(name) for name in node.output):
            continue
        operator, layer = reader.operator(node, any(fnmatchcase(node.name, glob) for glob in ignore))
        operators.append(operator)
        if layer is not None:
            layers[layer.output] = layer
    return operators, layers


class _Reader:
    def __init__(self, graph: Graph, types: Types) -> None:
        self.graph, self.types = graph, types
        self.readers = graph.readers()
        self.constants: Mapping[str, Any] = graph.arrays
        self.absorbed: set[int] = set()
        """Operators that another one stands for."""

    def operator(self, node: NodeProto, ignored: bool) -> tuple[Operator, Layer | None]:
        kind = self.kind(node)
        inputs = tuple(name for name in reads(node) if name not in self.constants and self.types.is_float(name))
        layer = self.layer(node, kind)
        output = next(filter(None, node.output)) if layer is None else layer.output
        if kind == "linear" and layer is None:
            kind = "matmul" if "matmul" in ROLES else "other"
        elif kind in ("conv", "conv_transpose") and layer is None:
            kind = "other"
        if layer is not None or ROLES[kind] in (Role.MOVES, Role.RECTIFIES):
            inputs = inputs[:1]
        return Operator(output, kind, inputs, self.bounds(node, kind), ignored), layer

    def kind(self, node: NodeProto) -> str:
        kind = KINDS.get(node.op_type, "other") if node.domain in ("", "ai.onnx") else "other"
        suits = _SUITS.get(kind)
        single = len([name for name in node.output if name]) == 1
        return kind if single and kind in ROLES and (suits is None or suits(self, node)) else "other"

    def bounds(self, node: NodeProto, kind: str) -> tuple[float, float] | None:
        if kind == "relu":
            return 0.0, float("inf")
        if kind != "clip":
            return None
        low, high = [*node.input[1:], "", ""][:2]
        return (
            float(self.constants[low].item()) if low else float("-inf"),
            float(self.constants[high].item()) if high else float("inf"),
        )

    def layer(self, node: NodeProto, kind: str) -> Layer | None:
        """What an operator's weights are, if they are constant."""
        weight = self.constants.get(node.input[1]) if kind in ("conv", "conv_transpose", "linear") else None
        if weight is None or node.input[0] in self.constants:
            return None
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        if bias is not None and bias not in self.constants:
            return None
        written = node.output[0]
        found = Layer(node.name, kind, node.input[0], written, written, node.input[1], 0, bias)
        if kind == "conv_transpose":
            return replace(found, axis=1)
        if kind == "conv":
            return found
        if weight.ndim != 2:
            return None
        transposed = node.op_type == "Gemm" and attribute(node, "transB", 0)
        found = replace(found, axis=0 if transposed else 1)
        return found if node.op_type == "Gemm" else self._with_bias(node, found, weight.shape[1])

    def _with_bias(self, node: NodeProto, layer: Layer, channels: int) -> Layer:
        """A matrix product and the addition of a constant row that alone reads it are one layer."""
        behind = self.readers[node.output[0]]
        if len(behind) != 1 or behind[0].op_type != "Add" or node.output[0] in self.graph.outputs:
            return layer
        (adds,) = behind
        bias = next((name for name in adds.input if name in self.constants), None)
        if bias is None or self.constants[bias].shape != (channels,):
            return layer
        self.absorbed.add(id(adds))
        return replace(layer, bias=bias, output=adds.output[0])

    def constant_ints(self, node: NodeProto, positions: slice) -> bool:
        return all(not name or name in self.constants for name in node.input[positions])


def _plain_gemm(reader: _Reader, node: NodeProto) -> bool:
    factors = (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0))
    return node.op_type == "MatMul" or (factors == (1.0, 1.0) and not attribute(node, "transA", 0))


def _reads_all_channels(reader: _Reader, node: NodeProto) -> bool:
    """A transposed convolution without groups and dilation, of a line or of images of a known size.

    That is what `compress.exporting.emissions.transposed` makes an int8 operator of.
    """
    plain = all(step == 1 for step in attribute(node, "dilations", [1])) and attribute(node, "group", 1) == 1
    padded = attribute(node, "auto_pad", b"NOTSET") == b"NOTSET" and attribute(node, "output_shape") is None
    places = reader.types.places(node.input[0])
    known = places is not None and (len(places) == 1 or (len(places) == 2 and None not in places))
    return plain and padded and known


def _two_activations(reader: _Reader, node: NodeProto) -> bool:
    return len(node.input) == 2 and not any(name in reader.constants for name in node.input)


def _joins_activations(reader: _Reader, node: NodeProto) -> bool:
    return not any(name in reader.constants for name in node.input)


def _pads_zeros(reader: _Reader, node: NodeProto) -> bool:
    pads = reader.constants.get(node.input[1]) if len(node.input) > 1 else None
    value = reader.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.float32(0)
    zeros = value is not None and not np.any(value) and attribute(node, "mode", b"constant") == b"constant"
    return zeros and pads is not None and bool(np.all(pads >= 0))


def _nearest(reader: _Reader, node: NodeProto) -> bool:
    return bool(attribute(node, "mode", b"nearest") == b"nearest")


def _clips_around_zero(reader: _Reader, node: NodeProto) -> bool:
    if not reader.constant_ints(node, slice(1, 3)):
        return False
    bounds = reader.bounds(node, "clip")
    return bounds is not None and bounds[0] <= 0 < bounds[1]


def _plain_pool(reader: _Reader, node: NodeProto) -> bool:
    """ONNX Runtime's int8 kernel answers wrongly where a window reaches beyond the image's end (`ceil_mode`)."""
    return _pool_of_places(reader, node) and not attribute(node, "ceil_mode", 0)


def _sixth(reader: _Reader, node: NodeProto) -> bool:
    """The hard sigmoid of hard-swish, clip(x / 6 + 1 / 2)."""
    slope, middle = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    return bool(abs(slope - 1 / 6) < 1e-4 and middle == 0.5)


def _pool_of_places(reader: _Reader, node: NodeProto) -> bool:
    """Over a line or an image."""
    return reader.types.rank(node.input[0]) in (None, 3, 4)


def _picks(reader: _Reader, node: NodeProto) -> bool:
    """Reads its floats from an activation: a table of constants, such as an embedding, is another thing."""
    return node.input[0] not in reader.constants


_SUITS: dict[str, Callable[[_Reader, NodeProto], bool]] = {
    "linear": _plain_gemm,
    "conv_transpose": _reads_all_channels,
    "add": _two_activations,
    "mul": _two_activations,
    "concat": _joins_activations,
    "pad": _pads_zeros,
    "resize_nearest": _nearest,
    "clip": _clips_around_zero,
    "average_pool": _plain_pool,
    "hard_sigmoid": _sixth,
    "global_average_pool": _pool_of_places,
    "slice": _picks,
    "reshape": _picks,
    "transpose": _picks,
}
"""What a node must be for it to count as an operator of its kind."""
