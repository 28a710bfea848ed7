"""Where a layer keeps its channels: which tensors and attributes have them, and how a layer loses some.

A layer has two axes, `in` and `out`; in norms and depthwise convolutions they are one, called `out`. Channels that
stand at the same position of each convolution group (or of each group of a group norm) can only go together: `period`
is the number of such positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

Axis = Literal["in", "out"]


@runtime_checkable
class SelfPruning(Protocol):
    """A module that takes its own channels away, such as a shortcut that maps channels to channels.

    An input channel that is gone must read as zero, as if it had been masked.
    """

    in_channels: int
    out_channels: int

    def drop_inputs(self, channels: Sequence[int]) -> None:
        """Take input channels away."""

    def drop_outputs(self, channels: Sequence[int]) -> None:
        """Take output channels away."""


@dataclass(frozen=True)
class Slot:
    """A tensor of a layer, and which of its dimensions counts the channels of an axis."""

    name: str
    dim: int


@dataclass(frozen=True)
class Layout:
    """The channels of one axis: their number, the tensors and attributes that have them, and their period."""

    channels: int
    slots: tuple[Slot, ...]
    counts: tuple[str, ...]
    period: int


def layout(layer: nn.Module, axis: Axis) -> Layout | None:
    """Where `layer` keeps the channels of `axis`; None if it has none there, or is of a kind not known here."""
    if isinstance(layer, _ConvNd):
        return _convolution(layer, axis)
    if isinstance(layer, nn.Linear):
        names = ("weight", "bias") if axis == "out" else ("weight",)
        count = "out_features" if axis == "out" else "in_features"
        slots = _present(layer, names, 0 if axis == "out" else 1)
        return Layout(getattr(layer, count), slots, (count,), getattr(layer, count))
    if axis == "in":
        return None
    if isinstance(layer, _BatchNorm | _InstanceNorm):
        slots = _present(layer, ("weight", "bias", "running_mean", "running_var"), 0)
        return Layout(layer.num_features, slots, ("num_features",), layer.num_features)
    if isinstance(layer, nn.GroupNorm):
        alone = layer.num_groups == layer.num_channels
        counts = ("num_channels", "num_groups") if alone else ("num_channels",)
        period = layer.num_channels if alone else layer.num_channels // layer.num_groups
        return Layout(layer.num_channels, _present(layer, ("weight", "bias"), 0), counts, period)
    if isinstance(layer, nn.LayerNorm):
        features = layer.normalized_shape[-1]
        return Layout(features, _present(layer, ("weight", "bias"), -1), ("normalized_shape",), features)
    if isinstance(layer, nn.PReLU):
        return Layout(layer.num_parameters, (Slot("weight", 0),), ("num_parameters",), layer.num_parameters)
    if isinstance(layer, nn.Embedding):
        return Layout(layer.embedding_dim, (Slot("weight", 1),), ("embedding_dim",), layer.embedding_dim)
    return None


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each channel of a convolution has a filter of its own, so that its two axes are one."""
    return isinstance(layer, _ConvNd) and layer.groups == layer.in_channels == layer.out_channels > 1


def _convolution(layer: _ConvNd, axis: Axis) -> Layout | None:
    if is_depthwise(layer):
        counts = ("in_channels", "out_channels", "groups")
        channels = layer.out_channels
        return Layout(channels, _present(layer, ("weight", "bias"), 0), counts, channels) if axis == "out" else None
    channels = layer.out_channels if axis == "out" else layer.in_channels
    # weight is (out, in / groups, ...), of a transposed convolution (in, out / groups, ...)
    first = (axis == "out") != layer.transposed
    slots = (Slot("weight", 0 if first else 1), *(_present(layer, ("bias",), 0) if axis == "out" else ()))
    return Layout(channels, slots, (f"{axis}_channels",), channels // layer.groups)


def _present(layer: nn.Module, names: Sequence[str], dim: int) -> tuple[Slot, ...]:
    return tuple(Slot(name, dim) for name in names if getattr(layer, name, None) is not None)


def drop(layer: nn.Module, axis: Axis, order: Sequence[int]) -> None:
    """Leave only the channels `order` of `axis`, in that order, in `layer`: its tensors and attributes.

    Raises:
        ValueError: `layer` is not known here, or its convolution groups would become unequal.
    """
    found = layout(layer, axis)
    if found is None:
        raise ValueError(f"{type(layer).__name__} has no {axis} channels that can be taken away")
    check_period(order, found, type(layer).__name__)
    for slot in found.slots:
        narrow(layer, slot, order)
    removed = found.channels - len(order)
    for count in found.counts:
        value = getattr(layer, count)
        setattr(layer, count, (*value[:-1], value[-1] - removed) if isinstance(value, tuple) else value - removed)


def check_period(order: Sequence[int], found: Layout, name: str) -> None:
    """Raise ValueError unless the same positions of each group are left."""
    groups = found.channels // found.period
    positions = [channel % found.period for channel in order]
    share = len(order) // groups
    chunks = [positions[start : start + share] for start in range(0, len(positions), max(1, share))]
    if groups > 1 and (len(chunks) != groups or any(chunk != chunks[0] for chunk in chunks)):
        raise ValueError(f"the groups of {name} would become unequal")


def narrow(layer: nn.Module, slot: Slot, order: Sequence[int]) -> None:
    """Leave only the channels `order` along `slot.dim` of one tensor of `layer`.

    The dimension may hold the channels of one convolution group only; then the first group's are taken.
    """
    tensor: Tensor = getattr(layer, slot.name)
    size = tensor.shape[slot.dim]
    positions = list(dict.fromkeys(channel % size for channel in order))
    index = torch.tensor(positions, dtype=torch.long, device=tensor.device)
    kept = tensor.detach().index_select(slot.dim, index)
    if isinstance(tensor, nn.Parameter):
        setattr(layer, slot.name, nn.Parameter(kept, requires_grad=tensor.requires_grad))
    else:
        setattr(layer, slot.name, kept)
