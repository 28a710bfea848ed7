"""AdaRound: which weights to round up and which down, so that each layer's output stays, not each weight.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", equations 21 to 25: rectified sigmoid
h(V), a regularizer that drives h to 0 or 1, and the error of the layer's output behind its activation function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from compress.exporting.graph import Graph
from compress.quantization.observe import Batches, Feeds, Watching
from compress.quantization.onnx_graph import Layer
from compress.quantization.post_training.layer_rows import Geometry
from compress.quantization.post_training.stepwise import Stepwise
from compress.quantization.template import GridPoint, QuantizedWeight, Template, insert
from compress.stage import Progress, Silent

Array = NDArray[Any]
ZETA, GAMMA = 1.1, -0.1
REGULARIZATION = 1.0
WARM_SHARE = 0.2
BETA_FIRST, BETA_LAST = 20.0, 2.0
LEARNING_RATE = 0.03
SMALLEST_ERROR = 1e-20
ROWS, ROWS_AT_ONCE = 8192, 512
TARGET_BYTES = 2**28
"""Of targets that are kept at once."""
_SILENT = Silent()


@dataclass(frozen=True)
class Rows:
    """What a layer reads and should write, as rows of a product: groups of (rows, inputs) and of (rows, outputs)."""

    inputs: Tensor
    targets: Tensor


def rectified_sigmoid(v: Tensor) -> Tensor:
    """h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1), equation 23."""
    return (torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def regularizer(h: Tensor, beta: float) -> Tensor:
    """The mean of 1 - |2 h - 1|^beta, equation 24: 0 where all h are 0 or 1."""
    return (1 - (2 * h - 1).abs().pow(beta)).mean()


def round_rows(
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    rows: Rows,
    *,
    bounds: tuple[float, float] | None = None,
    top: int = 127,
    iterations: int = 1000,
    seed: int = 0,
) -> tuple[Tensor, float, float]:
    """Integers for `weight` that keep the rows' outputs.

    Args:
        weight: (groups, outputs, inputs) floats.
        scale: (groups, outputs, 1) one step of each output channel.
        bias: (groups, 1, outputs).
        rows: Inputs (groups, rows, inputs), as the quantized network has them; targets (groups, rows, outputs), as the
            float network writes them before its activation function.
        bounds: What the activation function leaves.
        top: The greatest integer.
        iterations: Steps of Adam.
        seed: Of the choice of rows.

    Returns:
        The integers, of the weight's shape; the mean squared error of the outputs with the nearest integers, and with
        these: the nearest are kept where they are no worse.
    """
    low = torch.floor(weight / scale)
    rest = (weight / scale - low).clamp(0.01, 0.99)
    v = (-torch.log((ZETA - GAMMA) / (rest - GAMMA) - 1)).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        nearest = torch.round(weight / scale).clamp(-top, top)
        before = float(_error(rows.inputs, rows.targets, nearest * scale, bias, bounds))
    for i in range(iterations):
        chosen = torch.randint(rows.inputs.shape[1], (ROWS_AT_ONCE,), generator=generator)
        h = rectified_sigmoid(v)
        loss = _error(rows.inputs[:, chosen], rows.targets[:, chosen], (low + h) * scale, bias, bounds)
        loss = loss / max(before, SMALLEST_ERROR)
        done = i / iterations
        if done >= WARM_SHARE:
            annealed = (done - WARM_SHARE) / (1 - WARM_SHARE)
            loss = loss + REGULARIZATION * regularizer(h, BETA_FIRST + (BETA_LAST - BETA_FIRST) * annealed)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        learnt = (low + (rectified_sigmoid(v) >= 0.5)).clamp(-top, top)
        after = float(_error(rows.inputs, rows.targets, learnt * scale, bias, bounds))
    return (learnt, before, after) if after < before else (nearest, before, before)


def _error(inputs: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    outputs = torch.baddbmm(bias, inputs, weight.transpose(1, 2))
    return (_clipped(outputs, bounds) - _clipped(targets, bounds)).square().mean()


def _clipped(x: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    return x if bounds is None else x.clamp(*bounds)


def adaround(
    template: Template,
    grid: Mapping[str, GridPoint],
    weights: Mapping[str, QuantizedWeight],
    batches: Batches,
    *,
    iterations: int = 1000,
    bits: int = 8,
    threads: int = 1,
    seed: int = 0,
    progress: Progress = _SILENT,
) -> dict[str, QuantizedWeight]:
    """New integers for all convolutions and products, layer by layer; scales stay as they are.

    Transposed convolutions keep the integers that they have: a row of theirs would be another one at each phase.
    Each layer's inputs are those of the network in which all layers before it are rounded already.
    """
    result = dict(weights)
    arrays = Graph(template.proto.graph).arrays
    products = {name: node for node in template.proto.graph.node for name in node.output}
    points = {point.tensor: point.bounds for point in template.points}
    geometries = {
        layer.output: Geometry.of(products[layer.product], arrays[layer.weight], layer)
        for layer in template.layers.values()
        if layer.kind in ("conv", "linear")
    }
    layers = [template.layers[output] for output in geometries]
    feeds = list(batches())
    quantized = _Quantized(insert(template, grid, weights), layers, feeds, threads)
    with progress.task("rounding weights", len(layers)) as advance:
        for block in _blocks(layers, weights):
            exact = _targets(template, block, geometries, feeds, threads, seed)
            for layer in block:
                geometry, (where, targets) = geometries[layer.output], exact.pop(layer.output)
                scale = weights[layer.output].scale
                integers, _, _ = round_rows(
                    geometry.flatten(arrays[layer.weight]),
                    torch.from_numpy(scale.copy()).reshape(geometry.groups, -1, 1),
                    _bias(arrays, layer, geometry),
                    Rows(quantized.rows(layer, geometry, where), targets),
                    bounds=_bounds_behind(template, layer, points),
                    top=2 ** (bits - 1) - 1,
                    iterations=iterations,
                    seed=seed,
                )
                result[layer.output] = QuantizedWeight(geometry.unflatten(integers), scale)
                quantized.set(layer, result[layer.output].integers)
                advance()
    return result


def _blocks(layers: Sequence[Layer], weights: Mapping[str, QuantizedWeight]) -> Iterator[list[Layer]]:
    """Layers in a row whose targets fit `TARGET_BYTES`: the float network is computed once for each block."""
    block: list[Layer] = []
    size = 0
    for layer in layers:
        more = 4 * ROWS * len(weights[layer.output].scale)
        if block and size + more > TARGET_BYTES:
            yield block
            block, size = [], 0
        block.append(layer)
        size += more
    if block:
        yield block


def _bias(arrays: Mapping[str, Array], layer: Layer, geometry: Geometry) -> Tensor:
    """(groups, 1, outputs of a group), zeros for a layer without one."""
    outputs = arrays[layer.weight].shape[layer.axis]
    bias = arrays[layer.bias] if layer.bias is not None else np.zeros(outputs, np.float32)
    return torch.from_numpy(bias.copy()).reshape(geometry.groups, 1, -1)


def _bounds_behind(
    template: Template, layer: Layer, points: Mapping[str, tuple[float, float] | None]
) -> tuple[float, float] | None:
    """Of the relu or clip that alone reads a layer."""
    readers = [operator for operator in template.operators if layer.output in operator.inputs]
    return points.get(readers[0].output) if len(readers) == 1 and readers[0].kind in ("relu", "clip") else None


Places = list[list[Array]]
"""Where to look in each batch: index arrays of positions of a layer's outputs."""


def _targets(
    template: Template,
    layers: Sequence[Layer],
    geometries: Mapping[str, Geometry],
    feeds: Sequence[Feeds],
    threads: int,
    seed: int,
) -> dict[str, tuple[Places, Tensor]]:
    """Of each layer, by what it writes, random places in each batch and what the float network writes there."""
    floating = Watching(template.proto, list(dict.fromkeys(layer.data for layer in layers)), threads)
    arrays = Graph(template.proto.graph).arrays
    random = {layer.output: np.random.default_rng(seed) for layer in layers}
    places: dict[str, Places] = {layer.output: [] for layer in layers}
    targets: dict[str, list[Tensor]] = {layer.output: [] for layer in layers}
    for feed in feeds:
        seen = floating(feed)
        for layer in layers:
            name, geometry = layer.output, geometries[layer.output]
            where = geometry.rows(seen[layer.data], random[name], -(-ROWS // len(feeds)))
            inputs = geometry.gather(seen[layer.data], where)
            weight = geometry.flatten(arrays[layer.weight]).transpose(1, 2)
            targets[name].append(torch.baddbmm(_bias(arrays, layer, geometry), inputs, weight))
            places[name].append(where)
    return {name: (places[name], torch.cat(found, 1)) for name, found in targets.items()}


class _Quantized:
    """The quantized network, computed from layer to layer, each with the integers that the layers before it got."""

    def __init__(self, canonical: ModelProto, layers: Sequence[Layer], feeds: Sequence[Feeds], threads: int) -> None:
        nodes = {node.name: node for node in canonical.graph.node}
        self.inputs = {layer.output: nodes[layer.name].input[0] for layer in layers}
        self.graph = Stepwise(canonical, feeds, list(self.inputs.values()), threads)
        self.integers = {layer.output: self.graph.writers[nodes[layer.name].input[1]].input[0] for layer in layers}

    def rows(self, layer: Layer, geometry: Geometry, where: Places) -> Tensor:
        """What a layer reads at those places: (groups, rows, inputs of a group times kernel)."""
        batches = self.graph(self.inputs[layer.output])
        return torch.cat([geometry.gather(x, places) for x, places in zip(batches, where, strict=True)], 1)

    def set(self, layer: Layer, integers: Array) -> None:
        """Give a layer new integers, before what reads it is computed."""
        self.graph.arrays[self.integers[layer.output]] = integers
