"""Cross-layer equalization: channels of two layers in a row are scaled against each other until they fill their ranges.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1, equation 11.
The float network computes the same; its weights lose less in int8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from compress.exporting.graph import Graph, reads
from compress.quantization.onnx_graph import Layer
from compress.quantization.post_training.bias_correction import groups_of
from compress.quantization.template import Template

Array = NDArray[Any]
ROUNDS = 20
ENOUGH = 1e-3
LARGEST, SMALLEST = 1e4, 1e-4
CONVOLUTIONS = ("conv", "conv_transpose")
PASSES_SCALE = frozenset(
    {"relu", "max_pool", "average_pool", "global_average_pool", "pad", "reshape", "resize_nearest"}
)
"""Operators f with f(s x) = s f(x) for each channel by itself, s > 0."""
KEEPS_CHANNELS = PASSES_SCALE - {"reshape"}


@dataclass(frozen=True)
class Pair:
    """Two layers of which the second alone reads the first, behind operators that pass a scale per channel."""

    first: Layer
    second: Layer


def scales(first: Array, second: Array) -> Array:
    """S = sqrt(r1 r2) / r2 = sqrt(r1 / r2) for each channel.

    Args:
        first: (channels,) the greatest absolute weight that writes a channel, r1.
        second: (channels,) the greatest absolute weight that reads it, r2.

    Returns:
        What the first layer is divided by and the second multiplied with; 1 where a channel is empty or unread.
    """
    both = (first > 0) & (second > 0)
    ratio = np.divide(first, second, out=np.ones_like(first), where=both)
    result: Array = np.where(both, np.sqrt(ratio), 1.0).clip(SMALLEST, LARGEST)
    return result


def pairs(template: Template) -> list[Pair]:
    """The pairs of convolutions of a template, in graph order."""
    readers: dict[str, list[Any]] = {}
    for operator in template.operators:
        for name in operator.inputs:
            readers.setdefault(name, []).append(operator)
    graph = Graph(template.proto.graph)
    known = {operator.output for operator in template.operators}
    outputs = {*graph.outputs, *_read_otherwise(graph, known)}
    found = []
    for layer in template.layers.values():
        tensor = layer.output
        while layer.kind in CONVOLUTIONS and tensor not in outputs and len(readers.get(tensor, [])) == 1:
            (reader,) = readers[tensor]
            if reader.output in template.layers:
                second = template.layers[reader.output]
                if second.kind in CONVOLUTIONS:
                    found.append(Pair(layer, second))
                break
            if reader.kind not in KEEPS_CHANNELS:
                break
            tensor = reader.output
    return found


def _read_otherwise(graph: Graph, known: set[str]) -> set[str]:
    """Tensors whose values another than the template's operators reads, such as an ArgMax."""
    others = [node for node in graph.nodes if node.op_type not in ("Shape", "Size") and not known & set(node.output)]
    return {name for node in others for name in reads(node)}


def equalize(template: Template) -> Template:
    """The template with equalized weights: the same outputs but for rounding of float32.

    Repeats over all pairs until no scale moves by more than a thousandth, as section 4.1 says.
    """
    chains = pairs(template)
    proto = ModelProto()
    proto.CopyFrom(template.proto)
    graph = Graph(proto.graph)
    shared = {name for name, nodes in graph.readers().items() if len(nodes) > 1}
    chains = [pair for pair in chains if not shared & {pair.first.weight, pair.first.bias, pair.second.weight}]
    for _ in range(ROUNDS):
        moved = [_equalize_pair(graph, pair) for pair in chains]
        if max(moved, default=0.0) < ENOUGH:
            break
    graph.write()
    return template.with_proto(proto)


def _equalize_pair(graph: Graph, pair: Pair) -> float:
    """Rescale; how far the scales are from 1."""
    first, second = (
        np.moveaxis(graph.arrays[layer.weight], layer.axis, 0) for layer in (pair.first, pair.second)
    )  # output channels first, as those of a transposed convolution are not
    groups = groups_of(graph, pair.second)
    writes = np.abs(first).reshape(len(first), -1).max(1)
    by_group = second.reshape(groups, len(second) // groups, second.shape[1], -1)
    reads = np.abs(by_group).max((1, 3)).reshape(-1)
    scale = scales(writes, reads).astype(np.float32)
    divided = first / scale.reshape(-1, *[1] * (first.ndim - 1))
    multiplied = (by_group * scale.reshape(groups, 1, -1, 1)).reshape(second.shape)
    for layer, changed in ((pair.first, divided), (pair.second, multiplied)):
        graph.arrays[layer.weight] = np.ascontiguousarray(np.moveaxis(changed, 0, layer.axis))
    if pair.first.bias is not None:
        graph.arrays[pair.first.bias] = graph.arrays[pair.first.bias] / scale
    return float(np.abs(np.log(scale)).max())
