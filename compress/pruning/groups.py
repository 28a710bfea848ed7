"""Which channels can only go together.

A group is a set of layers whose channels are coupled; a unit is the least set of its channels that can go alone:
usually one channel, more where convolution groups, group norms or attention heads tie several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from compress.pruning.heads import Heads
from compress.pruning.layers import Axis, SelfPruning, layout

Place = tuple[str, Axis]
Chosen = Mapping[str, Sequence[int]]
"""For each group by name, units of it."""


@dataclass(frozen=True)
class Member:
    """One axis of one layer in a group: its channels `indices[k]` belong to units `units[k]`.

    `path` names a module, or a bare parameter, whose channels then lie along `dim`.
    """

    path: str
    axis: Axis
    indices: tuple[int, ...]
    units: tuple[int, ...]
    dim: int | None = None


@dataclass(frozen=True)
class Group:
    """Layers whose channels are coupled. `name` is the layer that it was found from, the first of the network.

    There are `units` units of `unit_size` channels each, counted in layer `name` (and its like, if tied); `heads` is
    set where a unit is an attention head.
    """

    name: str
    units: int
    unit_size: int
    members: tuple[Member, ...]
    heads: Heads | None = None

    @property
    def channels(self) -> int:
        """Channels in all."""
        return self.units * self.unit_size


@dataclass
class RawGroup:
    """A group as it was traced: members' units are still channels of the root layer `name`."""

    name: str
    channels: int
    members: list[Member] = field(default_factory=list)
    fixed: str = ""
    """Why none of it can go, if so."""


def form_groups(
    module: nn.Module, raw: Sequence[RawGroup], heads: Sequence[Heads]
) -> tuple[list[Group], dict[str, str]]:
    """Groups whose units can go alone, and for each root layer that cannot be pruned the reason."""
    sets = _DisjointSets()
    spots: dict[tuple[str, Axis, int], tuple[int, int]] = {}
    for number, group in enumerate(raw):
        attention = _attention(group, heads)
        for member in group.members:
            period = _period(module, member)
            for index, root in zip(member.indices, member.units, strict=True):
                sets.join(spots.setdefault((member.path, member.axis, index % period), (number, root)), (number, root))
                if attention and attention.covers(member.path, member.axis):
                    head = (f"heads of {member.path}", member.axis, index // attention.size)
                    sets.join(spots.setdefault(head, (number, root)), (number, root))
    found: list[Group] = []
    fixed: dict[str, str] = {}
    for numbers in _families(raw, sets):
        parts = [raw[number] for number in numbers]
        reason = next((part.fixed for part in parts if part.fixed), "")
        merged = _merge(parts, numbers, sets, heads)
        if reason or isinstance(merged, str):
            fixed.update({part.name: reason or str(merged) for part in parts})
        else:
            found.append(merged)
    return found, fixed


class _DisjointSets:
    """Union and find over (raw group, channel)."""

    def __init__(self) -> None:
        self.parent: dict[tuple[int, int], tuple[int, int]] = {}

    def find(self, node: tuple[int, int]) -> tuple[int, int]:
        root = node
        while (above := self.parent.get(root, root)) != root:
            root = above
        while (above := self.parent.get(node, node)) != root:
            self.parent[node], node = root, above
        return root

    def join(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self.parent[high] = low


def _period(module: nn.Module, member: Member) -> int:
    if member.dim is not None:
        return max(member.indices) + 1
    layer = module.get_submodule(member.path)
    found = layout(layer, member.axis)
    return found.period if found else max(member.indices) + 1


def _attention(group: RawGroup, heads: Sequence[Heads]) -> Heads | None:
    """The attention module whose queries, keys and values this group is."""
    outputs = {member.path for member in group.members if member.axis == "out"}
    return next((attention for attention in heads if attention.is_attended_by(outputs)), None)


def _families(raw: Sequence[RawGroup], sets: _DisjointSets) -> list[list[int]]:
    """Raw groups that share a unit, in the order of the network."""
    families = _DisjointSets()
    for number, group in enumerate(raw):
        for channel in range(group.channels):
            families.join((number, 0), (sets.find((number, channel))[0], 0))
    by_root: dict[tuple[int, int], list[int]] = {}
    for number in range(len(raw)):
        by_root.setdefault(families.find((number, 0)), []).append(number)
    return list(by_root.values())


def _merge(
    parts: Sequence[RawGroup], numbers: Sequence[int], sets: _DisjointSets, heads: Sequence[Heads]
) -> Group | str:
    """One group of several parts, or why it cannot be one."""
    numbered = list(zip(numbers, parts, strict=True))
    nodes = [(number, channel) for number, part in numbered for channel in range(part.channels)]
    roots = sorted({sets.find(node) for node in nodes})
    unit_of = {root: unit for unit, root in enumerate(roots)}
    sizes = [0] * len(roots)
    for node in nodes:
        sizes[unit_of[sets.find(node)]] += 1
    if len(roots) == 1:
        return "its channels can only go all together"
    if len(set(sizes)) > 1:
        return f"its channels are tied in sets of unequal sizes {sorted(set(sizes))}"
    members = [
        Member(m.path, m.axis, m.indices, tuple(unit_of[sets.find((number, root))] for root in m.units), m.dim)
        for number, part in numbered
        for m in part.members
    ]
    attention = next((found for part in parts if (found := _attention(part, heads))), None)
    return Group(parts[0].name, len(roots), sizes[0], tuple(members), attention)


def places(groups: Iterable[Group]) -> dict[Place, list[tuple[Group, Member]]]:
    """The members at each axis of each layer."""
    found: dict[Place, list[tuple[Group, Member]]] = {}
    for group in groups:
        for member in group.members:
            found.setdefault((member.path, member.axis), []).append((group, member))
    return found


def is_self_pruning(module: nn.Module, member: Member) -> bool:
    """Whether the layer of a member takes its own channels away."""
    return member.dim is None and isinstance(module.get_submodule(member.path), SelfPruning)
