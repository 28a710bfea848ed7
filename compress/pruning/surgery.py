"""Taking channels out of a network: every tensor and attribute that has them, in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from compress.pruning.groups import Chosen, Group, Member, Place, places
from compress.pruning.heads import scale_queries, set_heads
from compress.pruning.layers import SelfPruning, Slot, drop, has_two_axes, layout, narrow
from compress.pruning.ordering import Orders, channel_order, unit_orders


def removed_channels(groups: Iterable[Group], removed: Chosen) -> dict[Place, set[int]]:
    """For each axis of each layer the channels that go with the units `removed` of the groups."""
    found: dict[Place, set[int]] = {}
    for group in groups:
        gone = set(removed.get(group.name, ()))
        for member in group.members if gone else ():
            channels = {index for index, unit in zip(member.indices, member.units, strict=True) if unit in gone}
            found.setdefault((member.path, member.axis), set()).update(channels)
    return found


def cut(module: nn.Module, groups: Sequence[Group], removed: Chosen) -> None:
    """Take the units `removed` of the groups out of `module`: each layer is cut once, in channels of the whole network.

    Raises:
        ValueError: a layer cannot be cut so.
    """
    shared = _shared_parameters(module)
    orders, shortcuts = unit_orders(module, groups, removed)
    left = {group.name: group.units - len(set(removed.get(group.name, ()))) for group in groups}
    attention = [(heads, heads.units_left(left[g.name], g.units)) for g in groups for heads in g.counted]
    scale_queries(module, attention)
    touched = {name for name, units in removed.items() if units} | set(orders)
    for place, members in places(groups).items():
        if touched.intersection(group.name for group, _ in members) and place[0] not in shortcuts:
            _cut_layer(module, place, members, removed, orders)
    for path, shortcut in shortcuts.items():
        module.set_submodule(path, shortcut)
        _to_device_of(module, shortcut)
    set_heads(module, attention)
    _share_again(module, shared)


def _cut_layer(
    module: nn.Module, place: Place, members: Sequence[tuple[Group, Member]], removed: Chosen, orders: Orders
) -> None:
    (path, axis), dim = place, members[0][1].dim
    if dim is not None:  # a parameter outside of any layer
        owner, _, name = path.rpartition(".")
        holder = module.get_submodule(owner)
        narrow(holder, Slot(name, dim), channel_order(getattr(holder, name).shape[dim], members, removed, orders))
        return
    layer = module.get_submodule(path)
    if isinstance(layer, SelfPruning):
        channels = layer.out_channels if axis == "out" else layer.in_channels
        kept = channel_order(channels, members, removed, {})
        drop_own = layer.drop_outputs if axis == "out" else layer.drop_inputs
        drop_own(sorted(set(range(channels)) - set(kept)))
        _to_device_of(module, layer)
        return
    found = layout(layer, axis)
    drop(layer, axis, channel_order(found.channels if found else 0, members, removed, orders))


def _to_device_of(module: nn.Module, part: object) -> None:
    """What a part made anew goes where the network is."""
    place = next(module.parameters(), None)
    if place is not None and isinstance(part, nn.Module):
        part.to(place.device)


def _shared_parameters(module: nn.Module) -> list[list[str]]:
    """Names of parameters that are one and the same tensor."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [same for same in names.values() if len(same) > 1]


def _share_again(module: nn.Module, shared: Sequence[Sequence[str]]) -> None:
    """Make one tensor again of those that were one before each was cut by its own layer.

    Raises:
        ValueError: the layers that share it were cut differently.
    """
    for first, *others in shared:
        kept = module.get_parameter(first)
        for name in others:
            other = module.get_parameter(name)
            if other.shape != kept.shape or not (kept.is_meta or torch.equal(other, kept)):
                raise ValueError(f"{first} and {name} are one tensor, but would be cut differently")
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, kept)


def layer_widths(module: nn.Module, groups: Iterable[Group]) -> Mapping[str, int]:
    """Output channels of each convolution and linear layer of the groups, by name."""
    found = {}
    for path, axis in places(groups):
        layer = module.get_submodule(path) if axis == "out" and _is_module(module, path) else None
        described = layout(layer, "out") if layer is not None and has_two_axes(layer) else None
        if described is not None:
            found[path] = described.channels
    order = {name: position for position, (name, _) in enumerate(module.named_modules())}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def _is_module(module: nn.Module, path: str) -> bool:
    return any(path == name for name, _ in module.named_modules())
