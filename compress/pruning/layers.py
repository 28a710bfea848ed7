"""Where a layer keeps its channels: which tensors and attributes have them, and how a layer loses some.

A layer has two axes, `in` and `out`; in norms and depthwise convolutions they are one, called `out`. Channels that
stand at the same position of each convolution group (or of each group of a group norm) can only go together: `period`
is the number of such positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

Axis = Literal["in", "out"]


VECTOR_COUNTS = ("normalized_shape", "num_features", "num_channels", "hidden_size", "features", "dim")
"""Attributes that may hold the number of channels of somebody's own norm."""


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
    for kind, describe in KINDS:
        if isinstance(layer, kind):
            return describe(layer, axis)
    if type(layer).__name__ == "Conv1D" and isinstance(getattr(layer, "nf", None), int):
        return _transposed_linear(layer, axis)
    return _vectors(layer, axis) if _is_of_vectors(layer) else None


def is_depthwise(layer: nn.Module) -> bool:
    """Whether each channel of a convolution has a filter of its own, so that its two axes are one."""
    return isinstance(layer, _ConvNd) and layer.groups == layer.in_channels == layer.out_channels > 1


def _convolution(layer: _ConvNd, axis: Axis) -> Layout | None:
    if is_depthwise(layer):
        counts = ("in_channels", "out_channels", "groups")
        return _joint(axis, layer.out_channels, _present(layer, ("weight", "bias"), 0), counts)
    channels = layer.out_channels if axis == "out" else layer.in_channels
    # weight is (out, in / groups, ...), of a transposed convolution (in, out / groups, ...)
    first = (axis == "out") != layer.transposed
    slots = (Slot("weight", 0 if first else 1), *(_present(layer, ("bias",), 0) if axis == "out" else ()))
    return Layout(channels, slots, (f"{axis}_channels",), channels // layer.groups)


def _linear(layer: nn.Linear, axis: Axis) -> Layout:
    if axis == "out":
        return Layout(layer.out_features, _present(layer, ("weight", "bias"), 0), ("out_features",), layer.out_features)
    return Layout(layer.in_features, (Slot("weight", 1),), ("in_features",), layer.in_features)


def _running_norm(layer: _BatchNorm | _InstanceNorm, axis: Axis) -> Layout | None:
    slots = _present(layer, ("weight", "bias", "running_mean", "running_var"), 0)
    return _joint(axis, layer.num_features, slots, ("num_features",))


def _group_norm(layer: nn.GroupNorm, axis: Axis) -> Layout | None:
    slots = _present(layer, ("weight", "bias"), 0)
    if layer.num_groups == layer.num_channels:
        return _joint(axis, layer.num_channels, slots, ("num_channels", "num_groups"))
    return _joint(axis, layer.num_channels, slots, ("num_channels",), layer.num_channels // layer.num_groups)


def _layer_norm(layer: nn.LayerNorm, axis: Axis) -> Layout | None:
    return _joint(axis, layer.normalized_shape[-1], _present(layer, ("weight", "bias"), -1), ("normalized_shape",))


def _prelu(layer: nn.PReLU, axis: Axis) -> Layout | None:
    return _joint(axis, layer.num_parameters, (Slot("weight", 0),), ("num_parameters",))


def _embedding(layer: nn.Embedding, axis: Axis) -> Layout | None:
    return _joint(axis, layer.embedding_dim, (Slot("weight", 1),), ("embedding_dim",))


def _joint(
    axis: Axis, channels: int, slots: tuple[Slot, ...], counts: tuple[str, ...], period: int | None = None
) -> Layout | None:
    """The layout of a layer whose two axes are one."""
    return Layout(channels, slots, counts, period or channels) if axis == "out" else None


def _rms_norm(layer: nn.RMSNorm, axis: Axis) -> Layout | None:
    return _joint(axis, layer.normalized_shape[-1], _present(layer, ("weight",), -1), ("normalized_shape",))


def _transposed_linear(layer: Any, axis: Axis) -> Layout:
    """`Conv1D` of `transformers`: a linear layer whose weights are (in, out)."""
    inputs, outputs = layer.weight.shape
    if axis == "out":
        return Layout(outputs, (Slot("weight", 1), *_present(layer, ("bias",), 0)), ("nf",), outputs)
    return Layout(inputs, (Slot("weight", 0),), tuple(name for name in ("nx",) if hasattr(layer, name)), inputs)


def _vectors(layer: nn.Module, axis: Axis) -> Layout | None:
    """A norm or a scale of somebody's own: all its parameters are vectors of one length."""
    names = [name for name, _ in layer.named_parameters(recurse=False)]
    channels = len(layer.get_parameter(names[0]))
    counts = tuple(name for name in VECTOR_COUNTS if _holds(getattr(layer, name, None), channels))
    return _joint(axis, channels, tuple(Slot(name, 0) for name in names), counts)


def _holds(value: Any, channels: int) -> bool:
    return value == channels if type(value) is int else isinstance(value, tuple) and tuple(value) == (channels,)


def _is_of_vectors(layer: nn.Module) -> bool:
    parameters = [] if any(True for _ in layer.children()) else list(layer.parameters(recurse=False))
    return bool(parameters) and len({p.shape for p in parameters}) == 1 and parameters[0].dim() == 1


def is_norm(layer: nn.Module) -> bool:
    """Whether a layer may be a norm over channels, or a scale for each: silent channels have no part in its means."""
    if isinstance(layer, nn.LayerNorm | nn.GroupNorm | nn.RMSNorm):
        return True
    return not isinstance(layer, tuple(kind for kind, _ in KINDS)) and _is_of_vectors(layer)


def has_two_axes(layer: nn.Module) -> bool:
    """Whether a layer makes channels of others: a convolution or a linear layer."""
    return layout(layer, "in") is not None


def _present(layer: nn.Module, names: Sequence[str], dim: int) -> tuple[Slot, ...]:
    return tuple(Slot(name, dim) for name in names if getattr(layer, name, None) is not None)


KINDS: tuple[tuple[type[nn.Module], Callable[[Any, Axis], Layout | None]], ...] = (
    (_ConvNd, _convolution),
    (nn.Linear, _linear),
    (_BatchNorm, _running_norm),
    (_InstanceNorm, _running_norm),
    (nn.GroupNorm, _group_norm),
    (nn.LayerNorm, _layer_norm),
    (nn.RMSNorm, _rms_norm),
    (nn.PReLU, _prelu),
    (nn.Embedding, _embedding),
)


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
