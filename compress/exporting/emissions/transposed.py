"""Transposed convolutions as convolutions and a rearrangement of their outputs, for which there are int8 kernels.

A transposed convolution of stride s writes every s-th output with the same weights. So it is an ordinary convolution of
ceil(k / s) taps that writes the s outputs of each place (of an image: s * s) as channels, which are then put side by
side: Shi et al. 2016, "Is the deconvolution layer the same as a convolution layer?" (arXiv:1609.07009).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper

from compress.exporting.graph import Array, Graph, attribute

TO_THE_END = 2**31 - 1


@dataclass(frozen=True)
class Axis:
    """How one axis of an image is made of phases.

    Output o is phase r of place q, where o + `skipped` = q * `stride` + r: it adds the inputs q - j times the weights
    r + `first` + j * `stride`. There are `beyond` more places than inputs, and `left_over` phases behind the last
    output; `before` and `after` is the padding with which a convolution has all these places.
    """

    stride: int
    skipped: int
    first: int
    before: int
    after: int
    beyond: int
    left_over: int

    @classmethod
    def of(cls, kernel: int, stride: int, pads: tuple[int, int], output_padding: int) -> Axis:
        """With the fewest taps, and of those the one that leaves the fewest phases unused.

        `pads` are what a transposed convolution takes off at its beginning and end.
        """
        choices = [cls._skipping(skipped, kernel, stride, pads, output_padding) for skipped in range(stride)]
        return min(choices, key=lambda axis: (axis.taps, axis.skipped + axis.left_over))

    @classmethod
    def _skipping(cls, skipped: int, kernel: int, stride: int, pads: tuple[int, int], output_padding: int) -> Axis:
        first = pads[0] - skipped
        end = kernel - 1 + output_padding - pads[1] - first
        beyond = end // stride
        lowest = min(-((stride - 1 + first) // stride), beyond)  # no less padding than none
        highest = max((kernel - 1 - first) // stride, 0)
        left_over = (beyond + 1) * stride - 1 - end
        return cls(stride, skipped, first, highest, beyond - lowest, beyond, left_over)

    @property
    def taps(self) -> int:
        """The kernel of the convolution."""
        return self.before + self.after - self.beyond + 1

    def places(self, size: int) -> int:
        """How many outputs the convolution has for `size` inputs."""
        return size + self.beyond

    def tap(self, phase: int, position: int) -> int:
        """The weight at a position of the convolution's kernel; outside of the kernel there is none."""
        return phase + self.first + (self.before - position) * self.stride


def phases(weight: Array, axes: Sequence[Axis]) -> Array:
    """The convolution's weights (phases * out, in, taps, ...) for those (in, out, kernel, ...) of a transposed one.

    The first phases are those of the first axis; channels of one phase lie together.
    """
    inputs, outputs = weight.shape[:2]
    taps, strides = [axis.taps for axis in axes], [axis.stride for axis in axes]
    result = np.zeros((*strides, outputs, inputs, *taps), weight.dtype)
    every: Any = slice(None)
    for phase in product(*map(range, strides)):
        for position in product(*map(range, taps)):
            chosen = [axis.tap(r, t) for axis, r, t in zip(axes, phase, position, strict=True)]
            if all(0 <= k < size for k, size in zip(chosen, weight.shape[2:], strict=True)):
                result[(*phase, every, every, *position)] = weight[(every, every, *chosen)].T
    return result.reshape(-1, inputs, *taps)


def axes_of(node: NodeProto, kernel: Sequence[int]) -> list[Axis] | None:
    """How the axes of a ConvTranspose fall into phases; None with groups, dilation, or pads that are not numbers."""
    count = len(kernel)
    plain = attribute(node, "auto_pad", b"NOTSET") == b"NOTSET" and attribute(node, "output_shape") is None
    if not plain or attribute(node, "group", 1) != 1 or any(d != 1 for d in attribute(node, "dilations", [1])):
        return None
    strides, pads = attribute(node, "strides", [1] * count), attribute(node, "pads", [0] * 2 * count)
    added = attribute(node, "output_padding", [0] * count)
    margins = list(zip(pads[:count], pads[count:], strict=True))
    return [Axis.of(*settings) for settings in zip(kernel, strides, margins, added, strict=True)]


def convolve_transposed(canonical: ModelProto) -> ModelProto:
    """A canonical graph of the same numbers without int8 transposed convolutions.

    Where sizes are unknown that the rearrangement must know, or groups stand in the way, they stay.
    """
    result = ModelProto()
    result.CopyFrom(canonical)
    graph = Graph(result.graph)
    found = [node for node in graph.nodes if node.op_type == "ConvTranspose"]
    shapes = _shapes(canonical) if found else {}
    for node in found:
        _convolve(graph, node, shapes.get(node.input[0]))
    graph.write()
    return result


def _shapes(proto: ModelProto) -> dict[str, list[int | None]]:
    """Tensor -> its sizes, None where they are not known."""
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    values = [v for v in (*graph.input, *graph.value_info, *graph.output) if v.type.tensor_type.HasField("shape")]
    return {
        value.name: [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
        for value in values
    }


def _convolve(graph: Graph, node: NodeProto, shape: Sequence[int | None] | None) -> None:
    """Replace one, up to the DequantizeLinear behind it."""
    weight = graph.writers().get(node.input[1])
    behind = _up_to_dequantize(graph, node.output[0])
    if weight is None or weight.op_type != "DequantizeLinear" or weight.input[0] not in graph.arrays or not behind:
        return
    axes = axes_of(node, graph.arrays[weight.input[0]].shape[2:])
    if axes is None or shape is None or (len(axes) > 1 and None in shape[2:]) or len(axes) > 2:
        return
    output = behind[-1].output[0]
    for item in (node, *behind):
        graph.rename_reads(item.output[0], f"{item.output[0]}_phases", behind)
        item.output[0] = f"{item.output[0]}_phases"
    position = next(i for i, item in enumerate(graph.nodes) if item is node)
    graph.nodes[position] = _convolution(graph, node, weight, axes)
    channels = graph.arrays[weight.input[0]].shape[1]
    graph.nodes += _side_by_side(graph, behind[-1].output[0], output, node.name, channels, axes, shape[2:])


def _up_to_dequantize(graph: Graph, tensor: str) -> list[NodeProto]:
    """The relus, the QuantizeLinear and the DequantizeLinear that read a tensor one after the other, or nothing."""
    readers, found = graph.readers(), []
    for kinds in (("Relu", "Clip", "QuantizeLinear"), ("QuantizeLinear", "DequantizeLinear"), ("DequantizeLinear",)):
        behind = readers[tensor]
        if len(behind) != 1 or behind[0].op_type not in kinds or tensor in graph.outputs:
            return []
        found.append(behind[0])
        tensor = behind[0].output[0]
        if behind[0].op_type == "DequantizeLinear":
            return found
    return []


def _convolution(graph: Graph, node: NodeProto, weight: NodeProto, axes: Sequence[Axis]) -> NodeProto:
    """The convolution that writes the phases as channels; each has the scale of its output channel."""
    name, count = f"{node.name}_phases", prod(axis.stride for axis in axes)
    scale, zero_point = (np.tile(graph.arrays[item], count) for item in weight.input[1:3])
    constants = [
        graph.add_array(f"{name}_weight_quantized", phases(graph.arrays[weight.input[0]], axes)),
        graph.add_array(f"{name}_weight_scale", scale),
        graph.add_array(f"{name}_weight_zero_point", zero_point),
    ]
    graph.nodes.append(
        helper.make_node("DequantizeLinear", constants, [f"{name}_weight"], f"{name}.dequantize", axis=0)
    )
    inputs = [node.input[0], f"{name}_weight"]
    if len(node.input) > 2 and node.input[2]:
        inputs.append(graph.add_array(f"{name}_bias_floats", np.tile(graph.arrays[node.input[2]], count)))
    pads = [axis.before for axis in axes] + [axis.after for axis in axes]
    kernel = [axis.taps for axis in axes]
    return helper.make_node("Conv", inputs, [node.output[0]], name, kernel_shape=kernel, pads=pads)


def _side_by_side(
    graph: Graph,
    tensor: str,
    output: str,
    name: str,
    channels: int,
    axes: Sequence[Axis],
    sizes: Sequence[int | None],
) -> list[NodeProto]:
    """The operators that put phases, which are channels, side by side, with channels last: whole rows of bytes move.

    ONNX Runtime computes int8 convolutions with channels last, so that the first and last transposition vanish.
    """
    rank = len(axes) + 2
    steps: list[tuple[str, list[str], dict[str, Any]]] = []

    def constant(suffix: str, *numbers: int) -> str:
        return graph.add_array(f"{name}_{suffix}", np.array(numbers, np.int64))

    steps.append(("Transpose", [], {"perm": [0, *range(2, rank), 1]}))
    if len(axes) == 1:
        steps.append(("Reshape", [constant("line", 0, -1, channels)], {}))
    else:
        high, wide = (axis.places(size or 0) for axis, size in zip(axes, sizes, strict=True))
        tall, broad = (axis.stride for axis in axes)
        steps.append(("Reshape", [constant("rows", 0, high, wide, tall, broad * channels)], {}))
        steps.append(("Transpose", [], {"perm": [0, 1, 3, 2, 4]}))
        steps.append(("Reshape", [constant("image", 0, high * tall, wide * broad, channels)], {}))
    if any(axis.skipped or axis.left_over for axis in axes):
        starts = constant("starts", *(axis.skipped for axis in axes))
        ends = constant("ends", *(-axis.left_over or TO_THE_END for axis in axes))
        steps.append(("Slice", [starts, ends, constant("axes", *range(1, rank - 1))], {}))
    steps.append(("Transpose", [], {"perm": [0, rank - 1, *range(1, rank - 1)]}))
    nodes = []
    for number, (kind, constants, attributes) in enumerate(steps):
        written = output if number == len(steps) - 1 else f"{name}_moved_{number}"
        nodes.append(helper.make_node(kind, [tensor, *constants], [written], f"{name}_move_{number}", **attributes))
        tensor = written
    return nodes
