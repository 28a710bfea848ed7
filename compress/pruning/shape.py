"""What a network has left, and what its parts cost by that: the words of all searches by cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from compress.pruning.cost import Costs, Sized
from compress.pruning.ignore import is_under

Kept = Mapping[str, int]
"""How many units each group keeps, by name."""


@dataclass(frozen=True)
class Shape:
    """What a network has left: units of each group, and without which blocks (paths of their modules)."""

    kept: Kept
    dropped: frozenset[str] = frozenset()


class Part(Protocol):
    """Something that costs: `name` is the path of what it is in, `groups` are those that decide how much."""

    @property
    def name(self) -> str:
        """Where it is."""

    @property
    def groups(self) -> Collection[str]:
        """What decides."""


AnyPart = TypeVar("AnyPart", bound=Part)


def left(parts: Sequence[AnyPart], dropped: Collection[str]) -> list[AnyPart]:
    """The parts that lie in no dropped block."""
    return [part for part in parts if not is_under(part.name, dropped)] if dropped else list(parts)


@dataclass(frozen=True)
class Channels:
    """How many channels an axis has: `fixed` ones, and for each unit that a group keeps `per_unit` of them."""

    fixed: int
    per_unit: tuple[tuple[str, float], ...] = ()

    def left(self, kept: Kept) -> int:
        """Their number once groups keep so many units."""
        return round(self.fixed + sum(count * kept[group] for group, count in self.per_unit))

    @property
    def groups(self) -> set[str]:
        """The groups that decide their number."""
        return {group for group, _ in self.per_unit}


def channels_of(costs: Costs, sized: Sized, dim: int, groups: int = 1) -> Channels:
    """The channels that a dimension of a parameter counts, which stands for `groups` times as many."""
    dim %= len(sized.shape)
    owners = {group: int((owner >= 0).sum()) for (at, group), owner in sized.unit_of.items() if at == dim}
    per_unit = tuple((group, groups * count / costs.groups[group].units) for group, count in owners.items())
    return Channels(groups * (sized.shape[dim] - sum(owners.values())), per_unit)
