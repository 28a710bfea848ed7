"""SmoothQuant: outlier channels of a normalized activation move into the weights that read it.

Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
equation 4: s_j = max|X_j|^alpha / max|W_j|^(1 - alpha). The normalization is divided by s, the weights are multiplied
with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from compress.exporting.graph import Graph
from compress.quantization.observe import Batches, watch
from compress.quantization.onnx_graph import Layer
from compress.quantization.template import Template

Array = NDArray[Any]
ALPHAS = (0.35, 0.5, 0.65, 0.8)


def scales(activations: Array, weights: Array, alpha: float) -> Array:
    """(channels,) by equation 4 from the greatest absolute value of each channel; 1 where one of them is 0."""
    both = (activations > 0) & (weights > 0)
    safe_x, safe_w = np.where(both, activations, 1.0), np.where(both, weights, 1.0)
    result: Array = np.where(both, safe_x**alpha / safe_w ** (1 - alpha), 1.0).clip(1e-4, 1e4)
    return result


def places(template: Template) -> dict[str, list[Layer]]:
    """Outputs of layer normalizations that only linear layers of the template read, with those layers."""
    readers: dict[str, list[str]] = {}
    for operator in template.operators:
        for name in operator.inputs:
            readers.setdefault(name, []).append(operator.output)
    graph = Graph(template.proto.graph)
    outputs = set(graph.outputs)
    by_product = graph.readers()
    found = {}
    for node in graph.nodes:
        tensor = node.output[0]
        if node.op_type != "LayerNormalization" or node.input[1] not in graph.arrays or tensor in outputs:
            continue
        layers = [template.layers[name] for name in readers.get(tensor, []) if name in template.layers]
        linear = [layer for layer in layers if layer.kind == "linear"]
        if layers and len(linear) == len(by_product[tensor]):
            found[tensor] = linear
    return found


def channel_maxima(template: Template, batches: Batches, threads: int = 1) -> dict[str, Array]:
    """The greatest absolute value of each channel of the places' tensors."""
    found: dict[str, Array] = {}

    def watcher(name: str) -> Any:
        def see(values: Array) -> None:
            most = np.abs(values).reshape(-1, values.shape[-1]).max(0)
            found[name] = np.maximum(found[name], most) if name in found else most

        return see

    watch(template.proto, {name: watcher(name) for name in places(template)}, batches(), threads)
    return found


def smooth(template: Template, maxima: Mapping[str, Array], alpha: float) -> Template:
    """The template with smoothed activations: the same outputs but for rounding of float32."""
    proto = ModelProto()
    proto.CopyFrom(template.proto)
    graph = Graph(proto.graph)
    writers, readers = graph.writers(), graph.readers()
    for tensor, layers in places(template).items():
        normalization = writers[tensor]
        affine = [name for name in normalization.input[1:3] if name]
        if any(len(readers[name]) > 1 for name in (*affine, *(layer.weight for layer in layers))):
            continue
        scale = scales(maxima[tensor], _greatest(graph, layers), alpha).astype(np.float32)
        for name in affine:
            graph.arrays[name] = graph.arrays[name] / scale
        for layer in layers:
            shaped = scale.reshape(-1, 1) if layer.axis == 1 else scale
            graph.arrays[layer.weight] = graph.arrays[layer.weight] * shaped
    graph.write()
    return template.with_proto(proto)


def _greatest(graph: Graph, layers: Sequence[Layer]) -> Array:
    """The greatest absolute weight that reads each channel."""
    rows = [np.abs(graph.arrays[layer.weight]).max(layer.axis) for layer in layers]
    result: Array = np.max(rows, axis=0)
    return result
