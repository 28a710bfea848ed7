"""A layer as a product of rows: what it reads at some places of its output, and its weights, for each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.exporting.graph import attribute
from compress.quantization.onnx_graph import Layer

Array = NDArray[Any]


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
