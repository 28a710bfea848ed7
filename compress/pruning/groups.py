"""Which channels can only go together.

A group is a set of layers whose channels are coupled; a unit is the least set of its channels that can go alone:
usually one channel, more where convolution groups, group norms, attention heads or equal halves tie several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from compress.pruning.heads import Attention, Heads
from compress.pruning.labels import Ids, Labels
from compress.pruning.layers import Axis, SelfPruning, Slot, layout

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
class Traced:
    """The labels along one axis of one layer, or along `dim` of a bare parameter."""

    ids: Ids
    dim: int | None = None


@dataclass(frozen=True)
class Group:
    """Layers whose channels are coupled. `name` is the layer that it was found from, the first of the network.

    There are `units` units of `unit_size` channels each, counted in layer `name`. `heads` is set where a unit is an
    attention head, or a channel of every head: the first module that counts the most of them. `counted` is every count
    that units change.
    """

    name: str
    units: int
    unit_size: int
    members: tuple[Member, ...]
    heads: Heads | None = None
    counted: tuple[Heads, ...] = ()

    @property
    def channels(self) -> int:
        """Channels in all."""
        return self.units * self.unit_size

    @property
    def whole_heads(self) -> bool:
        """Whether a unit is an attention head."""
        return self.heads is not None and self.heads.goes == "heads"


def form_groups(
    found: Mapping[Place, Traced], makers: Sequence[str], labels: Labels, attention: Attention
) -> tuple[list[Group], dict[str, str]]:
    """Groups of the classes of labels that may go, and for each layer whose outputs all stay the reason.

    Args:
        found: For each axis of each layer its labels.
        makers: Layers that make channels of others, in the order of the network: what groups are named for.
        labels: Which labels go together, and which stay.
        attention: Where modules make heads, and what of them may go.
    """
    fixed: dict[str, str] = {}
    units: dict[int, tuple[str, int]] = {}
    sizes: dict[str, list[int]] = {}
    for name in (maker for maker in makers if (maker, "out") in found):
        ids = found[name, "out"].ids
        roots, reasons = labels.roots(ids).tolist(), labels.reasons(ids)
        if all(reasons):
            fixed[name] = reasons[0]
            continue
        counts = Counter(root for root, reason in zip(roots, reasons, strict=True) if not reason and root not in units)
        for root, count in counts.items():
            group = name if len(set(counts.values())) == 1 else f"{name} (by {count})"
            known = sizes.setdefault(group, [])
            units[root] = (group, len(known))
            known.append(count)
    members = _members(found, units, labels)
    counted = _counted(found, units, members, labels, attention)
    groups = []
    for name, counts_of in sizes.items():
        if len(counts_of) == 1:
            fixed[name] = "its channels can only go all together"
            continue
        heads = counted.get(name, ())
        most = max(heads, key=lambda found: found.count, default=None)
        groups.append(Group(name, len(counts_of), counts_of[0], tuple(members[name]), most, heads))
    return groups, fixed


def _members(
    found: Mapping[Place, Traced], units: Mapping[int, tuple[str, int]], labels: Labels
) -> dict[str, list[Member]]:
    """The axes of layers where the units of each group stand."""
    members: dict[str, list[Member]] = {}
    for (path, axis), traced in found.items():
        by_group: dict[str, tuple[list[int], list[int]]] = {}
        for index, root in enumerate(labels.roots(traced.ids).tolist()):
            if root in units:
                group, unit = units[root]
                indices, of_units = by_group.setdefault(group, ([], []))
                indices.append(index)
                of_units.append(unit)
        for group, (indices, of_units) in by_group.items():
            members.setdefault(group, []).append(Member(path, axis, tuple(indices), tuple(of_units), traced.dim))
    return members


def _counted(
    traced: Mapping[Place, Traced],
    units: Mapping[int, tuple[str, int]],
    members: Mapping[str, Sequence[Member]],
    labels: Labels,
    attention: Attention,
) -> dict[str, tuple[Heads, ...]]:
    """For each group whose units are heads, or channels of every head, the modules that count them."""
    found: dict[str, dict[Heads, None]] = {}
    for split in attention.splits:
        for group in {units[root][0] for root in labels.roots(split.labels).tolist() if root in units}:
            outputs = (member.path for member in members[group] if member.axis == "out")
            inside = [path for path in outputs if path.rpartition(".")[0] == split.path]
            rows = {path: np.flatnonzero(attention.queries[traced[path, "out"].ids]) for path in inside}
            queries = tuple((path, tuple(channels.tolist())) for path, channels in rows.items() if len(channels))
            heads = Heads(split.path, split.count, split.size, queries, attention.part)
            found.setdefault(group, {})[heads] = None
    return {name: tuple(heads) for name, heads in found.items()}


def places(groups: Iterable[Group]) -> dict[Place, list[tuple[Group, Member]]]:
    """The members at each axis of each layer."""
    found: dict[Place, list[tuple[Group, Member]]] = {}
    for group in groups:
        for member in group.members:
            found.setdefault((member.path, member.axis), []).append((group, member))
    return found


def parameters_of(module: nn.Module, member: Member) -> Iterator[tuple[Slot, nn.Parameter]]:
    """The parameters that hold a member's channels, each with the dimension that counts them.

    Of a bare parameter the slot has its path; a layer that takes its own channels away shows none.
    """
    if member.dim is not None:
        yield Slot(member.path, member.dim), module.get_parameter(member.path)
        return
    layer = module.get_submodule(member.path)
    found = None if isinstance(layer, SelfPruning) else layout(layer, member.axis)
    for slot in found.slots if found else ():
        tensor = getattr(layer, slot.name)
        if isinstance(tensor, nn.Parameter):
            yield slot, tensor
