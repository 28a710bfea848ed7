"""Bias correction: what rounding the weights does to a layer's mean output is taken off its bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2, equation 16:
E[y'] = E[y] + (W' - W) E[x], with E[x] from samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from compress.exporting.graph import Graph, attribute
from compress.quantization.observe import Batches, channel_means
from compress.quantization.onnx_graph import Layer
from compress.quantization.post_training.weights import dequantized
from compress.quantization.template import QuantizedWeight, Template

Array = NDArray[Any]


def correction(weight: Array, rounded: Array, means: Array, axis: int, groups: int = 1) -> Array:
    """(W' - W) E[x] for each output channel.

    Args:
        weight: The float weights, output channels on `axis`, of a convolution (out, in / groups, ...) or product.
        rounded: What the integers stand for, of the same shape.
        means: (in,) the mean of each input channel.
        axis: The axis of output channels.
        groups: Of a convolution.

    Returns:
        (out,), to be taken off the bias. A padded border, where the mean is lower, is not looked at.
    """
    difference = np.moveaxis(rounded.astype(np.float64) - weight, axis, 0)
    out = difference.shape[0]
    per_input = difference.reshape(groups, out // groups, difference.shape[1], -1).sum(-1)
    result: Array = np.einsum("goi,gi->go", per_input, means.reshape(groups, -1)).reshape(out)
    return result


def correct_biases(
    template: Template, weights: Mapping[str, QuantizedWeight], batches: Batches, threads: int = 1
) -> Template:
    """The template with the biases of its layers corrected for `weights`; shared ones stay as they are."""
    layers = [layer for layer in template.layers.values() if layer.bias is not None]
    axis_of = {layer.data: -1 if layer.kind == "linear" else 1 for layer in layers}
    means = channel_means(template.proto, list(axis_of), list(axis_of.values()), batches, threads)
    proto = ModelProto()
    proto.CopyFrom(template.proto)
    graph = Graph(proto.graph)
    for layer in layers:
        assert layer.bias is not None
        rounded = dequantized(weights[layer.output], layer.axis)
        shift = correction(graph.arrays[layer.weight], rounded, means[layer.data], layer.axis, groups_of(graph, layer))
        shift /= _outputs_for_an_input(graph, layer)
        _set_bias(graph, layer, graph.arrays[layer.bias].astype(np.float64) - shift)
    graph.write()
    return template.with_proto(proto)


def groups_of(graph: Graph, layer: Layer) -> int:
    """The groups of a layer's convolution, 1 for a product."""
    return next(int(attribute(node, "group", 1)) for node in graph.nodes if layer.product in node.output)


def _outputs_for_an_input(graph: Graph, layer: Layer) -> int:
    """How many places a transposed convolution writes for each that it reads: its weights are spread over these."""
    if layer.kind != "conv_transpose":
        return 1
    return next(int(math.prod(attribute(n, "strides", [1]))) for n in graph.nodes if layer.product in n.output)


def _set_bias(graph: Graph, layer: Layer, values: Array) -> None:
    """Change a layer's bias, if it alone reads it: what would be right for one of several is wrong for the others."""
    assert layer.bias is not None
    if len(graph.readers()[layer.bias]) == 1:
        graph.arrays[layer.bias] = values.astype(np.float32)
