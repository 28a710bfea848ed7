"""The pruned network's independent double: nothing is removed, but what would go is silenced where it stands.

Its answers are what a correctly pruned network must give: rows of weights that make a removed channel are zero, and so
are those that read it; a norm over channels takes its statistics from the channels that stay.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.pruning.groups import Chosen, Group
from compress.pruning.layers import SelfPruning, Slot, drop, is_norm, layout
from compress.pruning.surgery import removed_channels


class KeptNorm(nn.Module):
    """A layer or group norm over the channels `kept` only; the others come out as zero.

    Channels are the last axis of a layer norm and the second of a group norm, and of subclasses of a layer norm that
    say `channels_first`, as ConvNeXt's in `transformers` does.
    """

    def __init__(self, norm: nn.LayerNorm | nn.GroupNorm, kept: list[int]) -> None:
        super().__init__()
        self.norm, self.kept = norm, kept
        first = isinstance(norm, nn.GroupNorm) or getattr(norm, "data_format", "") == "channels_first"
        self.dim = 1 if first else -1

    def forward(self, x: Tensor) -> Tensor:
        """As the norm, of the same shape."""
        norm = self.norm
        index = torch.tensor(self.kept, device=x.device)
        y = x.index_select(self.dim, index)
        weight, bias = (None if p is None else p[self.kept] for p in (norm.weight, norm.bias))
        if isinstance(norm, nn.GroupNorm):
            groups = len(self.kept) if norm.num_groups == norm.num_channels else norm.num_groups
            y = functional.group_norm(y, groups, weight, bias, norm.eps)
        else:
            last = y.movedim(self.dim, -1)
            y = functional.layer_norm(last, (len(self.kept),), weight, bias, norm.eps).movedim(-1, self.dim)
        return torch.zeros_like(x).index_copy(self.dim, index, y)


class Narrowed(nn.Module):
    """A norm or scale of somebody's own, without the channels `gone`, which come out as zero.

    Channels are the axis of that length along which its weights stand; of several that one where a weight of zero gives
    zeros, the last one first.
    """

    def __init__(self, layer: nn.Module, gone: Iterable[int]) -> None:
        super().__init__()
        found = layout(layer, "out")
        assert found is not None
        self.channels, away = found.channels, set(gone)
        self.kept = [channel for channel in range(self.channels) if channel not in away]
        self.whole, self.layer = layer, copy.deepcopy(layer)
        drop(self.layer, "out", self.kept)

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, of the same shape."""
        dim = self._axis(x)
        index = torch.tensor(self.kept, device=x.device)
        return torch.zeros_like(x).index_copy(dim, index, self.layer(x.index_select(dim, index)))

    def _axis(self, x: Tensor) -> int:
        found = [number for number, size in enumerate(x.shape) if size == self.channels][::-1]
        if len(found) > 1:
            silent = copy.deepcopy(self.whole)
            for parameter in silent.parameters():
                with torch.no_grad():
                    parameter[..., :1] = 0
            y = silent(x)
            found = [number for number in found if not y.select(number, 0).any()] or found
        return found[0]


def masked(module: nn.Module, groups: Iterable[Group], removed: Chosen) -> nn.Module:
    """A copy of `module` in which the units `removed` of the groups are silent."""
    return silence(copy.deepcopy(module), groups, removed)


def silence(module: nn.Module, groups: Iterable[Group], removed: Chosen) -> nn.Module:
    """Silence the units `removed` of the groups, in place; gives `module`, whose layers may now be of other classes."""
    modules, groups = dict(module.named_modules()), list(groups)
    dims = {member.path: member.dim for group in groups for member in group.members if member.dim is not None}
    for (path, axis), gone in removed_channels(groups, removed).items():
        layer = modules.get(path)
        if layer is None:  # a parameter outside of any layer
            owner, _, name = path.rpartition(".")
            _zero(module.get_submodule(owner), Slot(name, dims[path]), gone)
        elif isinstance(layer, SelfPruning):
            if axis == "in":
                layer.register_forward_pre_hook(_Silencer(gone))  # type: ignore[attr-defined]
        elif isinstance(layer, nn.LayerNorm | nn.GroupNorm) and not _is_of_somebodys_own(layer):
            channels = layer.normalized_shape[-1] if isinstance(layer, nn.LayerNorm) else layer.num_channels
            module.set_submodule(path, KeptNorm(layer, [c for c in range(channels) if c not in gone]))
        elif is_norm(layer):
            module.set_submodule(path, Narrowed(layer, gone))
        elif found := layout(layer, axis):
            for slot in found.slots:
                if slot.name in layer._parameters:
                    _zero(layer, slot, gone)
    return module


def _is_of_somebodys_own(norm: nn.Module) -> bool:
    """Whether it computes in a way of its own, and does not say along which axis."""
    usual = type(norm).forward in (nn.LayerNorm.forward, nn.GroupNorm.forward)
    return not usual and not hasattr(norm, "data_format")


class _Silencer:
    """A hook that makes input channels zero."""

    def __init__(self, channels: Iterable[int]) -> None:
        self.channels = sorted(channels)

    def __call__(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x = arguments[0].clone()
        x[:, self.channels] = 0
        return (x, *arguments[1:])


@torch.no_grad()
def _zero(layer: nn.Module, slot: Slot, gone: Iterable[int]) -> None:
    """Put a parameter with zeros in the place of one that other layers may share."""
    tensor: nn.Parameter = getattr(layer, slot.name)
    index = torch.tensor(sorted({channel % tensor.shape[slot.dim] for channel in gone}), device=tensor.device)
    setattr(layer, slot.name, nn.Parameter(tensor.index_fill(slot.dim, index, 0.0), tensor.requires_grad))
