"""The order of the channels that stay, where a shortcut without weights maps one set of channels onto another.

After pruning, the channels that such a shortcut carries over lie scattered, and it would have to pick them one by one,
which costs time at every inference. The order of channels is free, though, as long as all coupled layers share it:
here those carried over are put side by side, so that the shortcut remains a slice and a pad.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from compress.models.zoo.shortcut import ZERO, PadShortcut, as_run
from compress.pruning.groups import Chosen, Group, Member, places
from compress.pruning.layers import Axis

Orders = dict[str, list[int]]
"""For each group by name its units that stay, in the order in which they shall stand."""
Unit = tuple[str, int]
"""A unit: the name of its group, and its number."""


@dataclass(frozen=True)
class Link:
    """A pad shortcut, and the unit of each of its input and output channels."""

    path: str
    shortcut: PadShortcut
    inputs: list[Unit]
    outputs: list[Unit]

    @property
    def carried(self) -> dict[Unit, Unit]:
        """The output unit that shows each input unit."""
        pairs = zip(self.shortcut.source, self.outputs, strict=True)
        return {self.inputs[source]: output for source, output in pairs if source != ZERO}

    def source(self, orders: Mapping[str, Sequence[int]]) -> list[int]:
        """The map of the channels that stay, once units stand in these orders."""
        inputs = [(self.inputs[0][0], unit) for unit in orders[self.inputs[0][0]]]
        position = {unit: number for number, unit in enumerate(inputs)}
        shown = {output: position[unit] for unit, output in self.carried.items() if unit in position}
        name = self.outputs[0][0]
        return [shown.get((name, unit), ZERO) for unit in orders[name]]


def unit_orders(module: nn.Module, groups: Sequence[Group], removed: Chosen) -> tuple[Orders, dict[str, PadShortcut]]:
    """Orders for the groups around pad shortcuts, and by path the shortcuts that fit them.

    Both are empty if channels may stay in the order in which they are: there is no such shortcut, all of them remain
    slices and pads anyhow, or no order makes all of them so.
    """
    links = _links(module, groups)
    names = {name for link in links for name, _ in (link.inputs[0], link.outputs[0])}
    kept = {
        group.name: [unit for unit in range(group.units) if unit not in set(removed.get(group.name, ()))]
        for group in groups
        if group.name in names
    }
    if all(as_run(link.source(kept)) for link in links):
        return {}, {}
    orders = _by_track(kept, links)
    if not all(as_run(link.source(orders)) for link in links):
        return {}, {}
    return orders, {link.path: _fresh(link, orders) for link in links}


def channel_order(channels: int, members: Iterable[tuple[Group, Member]], removed: Chosen, orders: Orders) -> list[int]:
    """The channels of an axis that stay, in the order in which they shall stand.

    Channels of a group with an order are put, in that order, at the places that the group's channels have.
    """
    gone: set[int] = set()
    moved: dict[int, int] = {}
    for group, member in members:
        away = set(removed.get(group.name, ()))
        pairs = list(zip(member.indices, member.units, strict=True))
        gone |= {index for index, unit in pairs if unit in away}
        if group.name in orders:
            rank = {unit: position for position, unit in enumerate(orders[group.name])}
            staying = sorted(index for index, unit in pairs if unit not in away)
            unit_of = dict(pairs)
            moved.update(zip(staying, sorted(staying, key=lambda index: (rank[unit_of[index]], index)), strict=True))
    return [moved.get(channel, channel) for channel in range(channels) if channel not in gone]


def _links(module: nn.Module, groups: Sequence[Group]) -> list[Link]:
    """The pad shortcuts between whole groups of single channels."""
    found = []
    members = places(groups)
    for path, part in module.named_modules():
        if not isinstance(part, PadShortcut):
            continue
        sides = []
        axes: tuple[tuple[Axis, int], ...] = (("in", part.in_channels), ("out", part.out_channels))
        for axis, channels in axes:
            units = {
                index: (group.name, unit)
                for group, member in members.get((path, axis), ())
                if group.unit_size == 1
                for index, unit in zip(member.indices, member.units, strict=True)
            }
            whole = len(units) == channels and len({name for name, _ in units.values()}) == 1
            sides.append([units[index] for index in range(channels)] if whole else [])
        if all(sides):
            found.append(Link(path, part, sides[0], sides[1]))
    return found


def _by_track(kept: Mapping[str, Sequence[int]], links: Sequence[Link]) -> Orders:
    """Units in the order of the tracks that they belong to.

    A track is a channel followed through shortcuts. Those that end first stand first, among those that begin together,
    and those of one group alone last: with up to three groups in a row, what comes in and what goes on are then both
    side by side in each of them.
    """
    alive = {(name, unit) for name, units in kept.items() for unit in units}
    following: dict[Unit, Unit] = {}
    for link in links:
        following.update({one: other for one, other in link.carried.items() if one in alive and other in alive})
    depth = {name: position for position, name in enumerate(_in_sequence(kept, links))}
    keys: dict[Unit, tuple[bool, int, int, int]] = {}
    for unit in sorted(alive - set(following.values()), key=lambda found: (depth[found[0]], found[1])):
        track = [unit]
        while track[-1] in following:
            track.append(following[track[-1]])
        key = (len(track) == 1, depth[unit[0]], depth[track[-1][0]], unit[1])
        keys.update(dict.fromkeys(track, key))
    return {name: sorted(units, key=lambda unit: keys[name, unit]) for name, units in kept.items()}


def _in_sequence(kept: Mapping[str, Sequence[int]], links: Sequence[Link]) -> list[str]:
    """Names of groups in the order in which shortcuts pass through them."""
    names = [name for link in links for name in (link.inputs[0][0], link.outputs[0][0])]
    return list(dict.fromkeys([*names, *kept]))


def _fresh(link: Link, orders: Orders) -> PadShortcut:
    """A shortcut like the link's, for channels in these orders: a run of its inputs, then zeros."""
    source = link.source(orders)
    inputs, zeros = len(orders[link.inputs[0][0]]), source.count(ZERO)
    fresh = PadShortcut(inputs, inputs + 2 * zeros, link.shortcut.stride)
    fresh.drop_outputs([*range(zeros), *(zeros + channel for channel in range(inputs) if channel not in source)])
    return fresh.train(link.shortcut.training)
