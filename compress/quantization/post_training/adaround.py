"""AdaRound: which weights to round up and which down, so that each layer's output stays, not each weight.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", equations 21 to 25: rectified sigmoid
h(V), a regularizer that drives h to 0 or 1, and the error of the layer's output behind its activation function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.exporting.graph import Graph, attribute
from compress.quantization.observe import Batches, Watching
from compress.quantization.onnx_graph import Layer
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

    Each layer's inputs are those of the network in which all layers before it are rounded already.
    """
    result = dict(weights)
    arrays = Graph(template.proto.graph).arrays
    points = {point.tensor: point.bounds for point in template.points}
    layers = [layer for layer in template.layers.values() if layer.kind in ("conv", "linear")]
    with progress.task("rounding weights", len(layers)) as advance:
        for layer in layers:
            node = next(n for n in template.proto.graph.node if layer.product in n.output)
            geometry = Geometry.of(node, arrays[layer.weight], layer)
            rows = _rows(template, insert(template, grid, result), layer, geometry, batches, threads, seed)
            found = result[layer.output]
            bias = arrays[layer.bias] if layer.bias is not None else np.zeros(len(found.scale), np.float32)
            integers, _, _ = round_rows(
                geometry.flatten(arrays[layer.weight]),
                torch.from_numpy(found.scale.copy()).reshape(geometry.groups, -1, 1),
                torch.from_numpy(bias.copy()).reshape(geometry.groups, 1, -1),
                rows,
                bounds=_bounds_behind(template, layer, points),
                top=2 ** (bits - 1) - 1,
                iterations=iterations,
                seed=seed,
            )
            result[layer.output] = QuantizedWeight(geometry.unflatten(integers), found.scale)
            advance()
    return result


def _bounds_behind(
    template: Template, layer: Layer, points: Mapping[str, tuple[float, float] | None]
) -> tuple[float, float] | None:
    """Of the relu or clip that alone reads a layer."""
    readers = [operator for operator in template.operators if layer.output in operator.inputs]
    return points.get(readers[0].output) if len(readers) == 1 and readers[0].kind in ("relu", "clip") else None


@dataclass(frozen=True)
class Geometry:
    """How a layer's weights and inputs become those of a product of rows, one for each group."""

    groups: int
    shape: tuple[int, ...]
    axis: int
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"

    @classmethod
    def of(cls, node: Any, weight: Array, layer: Layer) -> Geometry:
        """Of a Conv, MatMul or Gemm."""
        if layer.kind == "linear":
            return cls(1, weight.shape, layer.axis)
        axes = weight.ndim - 2
        return cls(
            int(attribute(node, "group", 1)),
            weight.shape,
            0,
            weight.shape[2:],
            tuple(attribute(node, "strides", [1] * axes)),
            tuple(attribute(node, "pads", [0] * 2 * axes)),
            tuple(attribute(node, "dilations", [1] * axes)),
            attribute(node, "auto_pad", b"NOTSET").decode(),
        )

    def margins(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Zeros before and after each axis of an input of these sizes."""
        axes = len(self.kernel)
        if not self.auto_pad.startswith("SAME"):
            return list(zip(self.pads[:axes], self.pads[axes:], strict=True))
        found = []
        for size, d, k, s in zip(sizes, self.dilations, self.kernel, self.strides, strict=True):
            whole = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            less, more = whole // 2, whole - whole // 2
            found.append((less, more) if self.auto_pad == "SAME_UPPER" else (more, less))
        return found

    def flatten(self, weight: Array) -> Tensor:
        """(groups, outputs of a group, inputs of a group times kernel)."""
        moved = np.ascontiguousarray(np.moveaxis(weight, self.axis, 0).astype(np.float32))
        return torch.from_numpy(moved).reshape(self.groups, moved.shape[0] // self.groups, -1)

    def unflatten(self, integers: Tensor) -> Array:
        """The inverse of `flatten`, as int8."""
        moved_shape = (self.shape[self.axis], *(n for i, n in enumerate(self.shape) if i != self.axis))
        result: Array = np.moveaxis(integers.numpy().astype(np.int8).reshape(moved_shape), 0, self.axis)
        return np.ascontiguousarray(result)

    def rows(self, x: Array, rng: np.random.Generator, count: int) -> list[Array]:
        """Where to look: `count` positions of the outputs for the inputs `x`, as index arrays."""
        if not self.kernel:
            return [rng.integers(0, int(np.prod(x.shape[:-1])), count)]
        sizes = [
            (size + sum(margin) - d * (k - 1) - 1) // s + 1
            for size, margin, d, k, s in zip(
                x.shape[2:], self.margins(x.shape[2:]), self.dilations, self.kernel, self.strides, strict=True
            )
        ]
        return [rng.integers(0, n, count) for n in (len(x), *sizes)]

    def gather(self, x: Array, where: list[Array]) -> Tensor:
        """(groups, rows, inputs of a group times kernel) at those positions."""
        if not self.kernel:
            return torch.from_numpy(x.reshape(-1, x.shape[-1])[where[0]]).unsqueeze(0)
        padded = np.pad(x, [(0, 0), (0, 0), *self.margins(x.shape[2:])])
        grids = np.meshgrid(
            *(np.arange(k) * d for k, d in zip(self.kernel, self.dilations, strict=True)), indexing="ij"
        )
        places = [
            w[:, None] * s + grid.reshape(1, -1) for w, s, grid in zip(where[1:], self.strides, grids, strict=True)
        ]
        found = np.moveaxis(padded, 1, -1)[(where[0][:, None], *places)]  # (rows, kernel positions, channels)
        rows = np.moveaxis(found, -1, 1).reshape(len(found), self.groups, -1)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(rows, 1, 0)))


def _rows(
    template: Template,
    quantized: Any,
    layer: Layer,
    geometry: Geometry,
    batches: Batches,
    threads: int,
    seed: int,
) -> Rows:
    """Rows of a layer at random places, the same ones of the float and of the quantized network."""
    node = next(n for n in quantized.graph.node if n.name == layer.name)
    floating = Watching(template.proto, [layer.data], threads)
    rounded = Watching(quantized, [node.input[0]], threads)
    arrays = Graph(template.proto.graph).arrays
    weight = geometry.flatten(arrays[layer.weight])
    bias = arrays[layer.bias] if layer.bias is not None else np.zeros(weight.shape[0] * weight.shape[1], np.float32)
    feeds = list(batches())
    rng = np.random.default_rng(seed)
    inputs, targets = [], []
    for feed in feeds:
        exact, near = floating(feed)[layer.data], rounded(feed)[node.input[0]]
        where = geometry.rows(exact, rng, -(-ROWS // len(feeds)))
        inputs.append(geometry.gather(near, where))
        reference = geometry.gather(exact, where)
        shift = torch.from_numpy(bias.copy()).reshape(geometry.groups, 1, -1)
        targets.append(torch.baddbmm(shift, reference, weight.transpose(1, 2)))
    return Rows(torch.cat(inputs, 1), torch.cat(targets, 1))
