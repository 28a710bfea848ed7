"""A convolution or linear layer as the matrix that it is: what it reads at one place, and what that is multiplied by.

A place is a position of a convolution's output (of its input, where it is transposed), a token, or an example.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from compress.pruning.layers import Axis, layout


def numbers_of(layer: Any, axis: Axis) -> tuple[int, int, int]:
    """Its convolution groups (1 of a linear layer), the channels of each, and how many numbers one has at a place.

    A convolution reads a window at a place, and a transposed one writes one.
    """
    described = layout(layer, axis)
    assert described is not None
    many = layer.groups if isinstance(layer, _ConvNd) else 1
    window = isinstance(layer, _ConvNd) and isinstance(layer, _ConvTransposeNd) == (axis == "out")
    return many, described.channels // many, prod(layer.kernel_size) if window else 1


def has_constant(layer: Any) -> bool:
    """Whether something is added to each output at every place; a transposed convolution adds up several places."""
    return getattr(layer, "bias", None) is not None and not isinstance(layer, _ConvTransposeNd)


def rows_of(layer: Any, x: Tensor, wanted: int, generator: torch.Generator | None) -> Tensor:
    """What the layer reads at some places of `x`: (places, numbers); all places if there are no more than `wanted`."""
    if not isinstance(layer, _ConvNd):
        flat = x.reshape(-1, x.shape[-1])
        return flat[_some(len(flat), wanted, generator).to(x.device)]
    if isinstance(layer, _ConvTransposeNd):
        flat = x.movedim(1, -1).reshape(-1, x.shape[1])
        return flat[_some(len(flat), wanted, generator).to(x.device)]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    windows = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    sides = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    for dim, (kernel, stride, dilation) in enumerate(sides, start=2):
        windows = windows.unfold(dim, (kernel - 1) * dilation + 1, stride)[..., ::dilation]  # a view
    places = (windows.shape[0], *windows.shape[2 : 2 + len(layer.kernel_size)])
    chosen = torch.unravel_index(_some(prod(places), wanted, generator).to(x.device), places)
    at: Any = (chosen[0], slice(None), *chosen[1:])
    return windows[at].flatten(1)


def _some(count: int, wanted: int, generator: torch.Generator | None) -> Tensor:
    return torch.randperm(count, generator=generator)[: min(count, wanted)]


def matrix_of(layer: Any) -> Tensor:
    """Its weights as (convolution groups, outputs, numbers read at a place)."""
    weight: Tensor = layer.weight.detach()
    if isinstance(layer, _ConvTransposeNd):
        return weight.reshape(layer.groups, weight.shape[0] // layer.groups, -1).transpose(1, 2)
    if isinstance(layer, _ConvNd):
        return weight.reshape(layer.groups, weight.shape[0] // layer.groups, -1)
    return (weight if isinstance(layer, nn.Linear) else weight.T)[None]


def add_to(layer: Any, change: Tensor) -> None:
    """Change the weights by what stands as `matrix_of` gives them."""
    if isinstance(layer, _ConvTransposeNd) or not isinstance(layer, _ConvNd | nn.Linear):
        change = change.transpose(1, 2)
    layer.weight.add_(change.reshape(layer.weight.shape))
