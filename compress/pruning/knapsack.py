"""What to remove so that a cost comes down to what is wanted: first what saves most for least importance.

A greedy knapsack over steps of groups and whole blocks. Time goes in steps (on some processors of 16 channels), so a
step may jump over several widths; and since a layer's time depends on both of its sides, savings are looked at anew
after each choice. The idea of a table and a knapsack is that of Shen et al., "Structural Pruning via Latency-Saliency
Knapsack" (HALP), NeurIPS 2022 (arXiv:2210.06659).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.pruning.ignore import is_under
from compress.pruning.shape import Kept, Part, Shape

PartCost = Callable[[Any, Kept], float]
"""What one part costs once groups keep so many units."""


@dataclass(frozen=True)
class Family:
    """Groups that keep the same share, mostly one: `levels` are the units that each may keep, falling.

    `losses[level]` is the importance of all that goes when that level is kept: 0 for the first.
    """

    levels: tuple[Kept, ...]
    losses: tuple[float, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, by name."""
        return tuple(self.levels[0])


@dataclass(frozen=True)
class Block:
    """A block that may be dropped. Of those with the same `home` one stays at least; without one, all may go."""

    path: str
    loss: float
    home: str


@dataclass
class Knapsack:
    """The state of the search: the level of each family, and the blocks that are gone."""

    layers: Sequence[Part]
    cost: PartCost
    families: Sequence[Family]
    blocks: Sequence[Block] = ()
    fixed: Mapping[str, int] = field(default_factory=dict)
    level: list[int] = field(init=False)
    dropped: set[str] = field(init=False, default_factory=set)
    kept: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.level = [0] * len(self.families)
        self.kept = dict(self.fixed)
        for family in self.families:
            self.kept.update(family.levels[0])
        self._touched = [
            [layer for layer in self.layers if set(layer.groups).intersection(family.groups)]
            for family in self.families
        ]
        self._inside = {b.path: [layer for layer in self.layers if is_under(layer.name, {b.path})] for b in self.blocks}

    @property
    def shape(self) -> Shape:
        """What is left."""
        return Shape(dict(self.kept), frozenset(self.dropped))

    def total(self) -> float:
        """The cost of what is left."""
        return sum(self.cost(layer, self.kept) for layer in self.layers if not self._gone(layer))

    def run(self, wanted: float) -> Shape:
        """Take away until the cost is `wanted` or less, or nothing more may go; then give back what was too much."""
        total = self.total()
        history: list[tuple[float, Callable[[], None], Callable[[], None]]] = []
        while total > wanted:
            best = self._best(total - wanted)
            if best is None:
                break
            loss, saved, do, undo = best
            do()
            total -= saved
            history.append((loss, do, undo))
        for at in sorted(range(len(history)), key=lambda at: (-history[at][0], -at)):  # of equal ones the last first
            _, do, undo = history[at]
            undo()
            again = self.total()
            if again > wanted:
                do()
        return self.shape

    def _best(self, over: float) -> tuple[float, float, Callable[[], None], Callable[[], None]] | None:
        """The step with the least loss for what it saves, where more than `over` counts as that."""
        found = None
        least = float("inf")
        for number, family in enumerate(self.families):
            now = self.level[number]
            before = self._cost_of(number, family.levels[now])
            for target in range(now + 1, len(family.levels)):
                saved = before - self._cost_of(number, family.levels[target])
                loss = family.losses[target] - family.losses[now]
                if saved > 1e-12 and loss / min(saved, over) < least:
                    least = loss / min(saved, over)
                    found = (loss, saved, *self._moves(number, now, target))
        for block in self.blocks:
            if block.path in self.dropped or not _may_go(block, self.blocks, self.dropped):
                continue
            saved = sum(self.cost(layer, self.kept) for layer in self._inside[block.path])
            if saved > 1e-12 and block.loss / min(saved, over) < least:
                least = block.loss / min(saved, over)
                found = (block.loss, saved, *self._drop(block.path))
        return found

    def _moves(self, number: int, now: int, target: int) -> tuple[Callable[[], None], Callable[[], None]]:
        family = self.families[number]

        def go(expected: int, level: int) -> Callable[[], None]:
            def move() -> None:
                if self.level[number] == expected:
                    self.level[number] = level
                    self.kept.update(family.levels[level])

            return move

        return go(now, target), go(target, now)

    def _drop(self, path: str) -> tuple[Callable[[], None], Callable[[], None]]:
        return (lambda: self.dropped.add(path)), (lambda: self.dropped.discard(path))

    def _cost_of(self, number: int, level: Kept) -> float:
        """What the layers of a family cost if its groups keep so many units."""
        kept = {**self.kept, **level}
        return sum(self.cost(layer, kept) for layer in self._touched[number] if not self._gone(layer))

    def _gone(self, layer: Part) -> bool:
        return bool(self.dropped) and is_under(layer.name, self.dropped)


def droppable(blocks: Sequence[Block]) -> frozenset[str]:
    """The paths of all blocks that can be gone at once, the least important first."""
    dropped: set[str] = set()
    for block in sorted(blocks, key=lambda block: block.loss):
        if _may_go(block, blocks, dropped):
            dropped.add(block.path)
    return frozenset(dropped)


def _may_go(block: Block, blocks: Sequence[Block], dropped: set[str]) -> bool:
    """Whether its home would still have one of its blocks."""
    gone = dropped | {block.path}
    return not block.home or any(other.home == block.home and other.path not in gone for other in blocks)
