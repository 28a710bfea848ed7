"""What to remove for a cost, such as time: a knapsack over cost and importance, in rounds that look anew."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compress.pruning.block_harm import harm_of_blocks
from compress.pruning.depth import bypassed, find_blocks
from compress.pruning.double import double_without
from compress.pruning.groups import Chosen, Group
from compress.pruning.ignore import ignored_modules, is_under
from compress.pruning.importance.measures import MEASURES, Given
from compress.pruning.knapsack import Block, Family, Knapsack, droppable
from compress.pruning.prunable import Prunable
from compress.pruning.selection import going_order, normalised
from compress.pruning.settings import Pruning
from compress.pruning.shape import Kept, Part, Shape
from compress.pruning.ties import per_step, tied, tied_steps
from compress.pruning.worth import worth_of_removed

LEVELS = 6
"""Most widths that a layer may get, its own included: what is measured grows with their square."""
CLOSE = 0.03
"""How far below the cost that is wanted, relative, a choice may lie before others are tried."""
SPARED = 4
"""How many blocks are spared in turn for a closer choice."""


@dataclass(frozen=True)
class Look:
    """What was seen of a network without units and blocks.

    `scores` are those of units, and `orders` the units that are left, the least important first, both by group; `harm`
    is by how much the loss grows without each further block.
    """

    removed: Chosen
    dropped: frozenset[str]
    scores: Mapping[str, Tensor]
    orders: Mapping[str, list[int]]
    harm: Mapping[str, float]


class CostModel(Protocol):
    """What a shape costs, in whatever unit, as a sum over layers or other parts."""

    @property
    def layers(self) -> Sequence[Part]:
        """The parts."""

    def predict(self, shape: Shape) -> float:
        """The cost of a shape."""

    def layer_cost(self, layer: Any, kept: Kept) -> float:
        """What one of them adds to it."""


Span = Mapping[str, tuple[int, int | None]]
"""The least and the most units that some groups may keep, by name; None for all."""


class Search:
    """What may go of a network: widths of groups, and blocks.

    Args:
        network: left as it is.
        settings: floors, importance, rounds, and whether blocks may go.
    """

    def __init__(self, network: Prunable, settings: Pruning) -> None:
        self.module, self.groups, self.settings = network.module, network.groups, settings
        self.paths = find_blocks(network.module, network.inputs) if settings.drops_blocks else []
        if ignored := ignored_modules(network.module, settings.ignore):
            self.paths = [path for path in self.paths if not (is_under(path, ignored) or _holds(path, ignored))]
        self.together = tied(self.groups, network.ties)
        self.ladders = [_ladder(part, settings) for part in self.together]
        self.units = {group.name: group.units for group in self.groups}

    @property
    def whole(self) -> Shape:
        """Nothing gone."""
        return Shape(self.units)

    @property
    def middle(self) -> Shape:
        """Every group at the middle of what it may keep, no block gone."""
        return Shape({name: units for ladder in self.ladders for name, units in ladder[len(ladder) // 2].items()})

    @property
    def floor(self) -> Shape:
        """The least that may be left."""
        kept = {name: units for ladder in self.ladders for name, units in ladder[-1].items()}
        return Shape(kept, droppable(self._blocks({})))

    def within(self, span: Span) -> Search:
        """The same, where some groups may keep only so many units."""
        found = copy.copy(self)
        found.ladders = [[level for level in ladder if _is_within(level, span)] for ladder in self.ladders]
        return found

    def can_use(self, look: Look) -> bool:
        """Whether a look leaves each group at least something that it may keep here."""
        return all(family.levels for family in self.families(look))

    def allows(self, shape: Shape) -> bool:
        """Whether each group keeps what it may."""
        return all(any(level.items() <= shape.kept.items() for level in ladder) for ladder in self.ladders)

    def left_of(self, shape: Shape) -> str:
        """What tells the networks of two shapes apart: the widths outside of blocks that are gone, and these blocks."""
        widths = [f"{name} {shape.kept[name]}" for name in sorted(self.alive(shape.dropped))]
        return ", ".join([*widths, *(f"no {path}" for path in sorted(shape.dropped))])

    def alive(self, dropped: Collection[str]) -> frozenset[str]:
        """The groups of which something is left outside of dropped blocks."""
        gone = (all(is_under(member.path, dropped) for member in group.members) for group in self.groups)
        return frozenset(group.name for group, away in zip(self.groups, gone, strict=True) if not away)

    def most_different(self, model: CostModel, one: Shape, other: Shape) -> tuple[str, ...]:
        """The tied groups whose widths make most of the difference in cost between two shapes; none if all agree."""
        cost: float = 0.0
        found: tuple[str, ...] = ()
        for part in self.together:
            names = tuple(group.name for group in part)
            changed = Shape({**one.kept, **{name: other.kept[name] for name in names}}, one.dropped)
            if changed != one and abs(model.predict(changed) - model.predict(one)) > cost:
                cost, found = abs(model.predict(changed) - model.predict(one)), names
        return found

    def kept_at(self, level: int) -> Kept:
        """What groups keep at a level of their ladders, the last one where there are fewer."""
        return {n: u for ladder in self.ladders for n, u in ladder[min(level, len(ladder) - 1)].items()}

    def look(self, model: CostModel, wanted: float, given: Given) -> Look:
        """What matters once most has gone: the knapsack in rounds, each of which looks anew without what is gone."""
        rounds = MEASURES[self.settings.importance].looks(self.settings.rounds)
        start, seen = model.predict(self.whole), self.look_at_whole(given)
        for number in range(1, rounds):
            seen = self._look(*self._without_more(model, seen, start * (wanted / start) ** (number / rounds)), given)
        return seen

    def look_at_whole(self, given: Given) -> Look:
        """What matters while nothing is gone."""
        return self._look({}, frozenset(), given)

    def choose(self, model: CostModel, wanted: float, look: Look) -> tuple[dict[str, list[int]], Shape]:
        """What goes for a cost, from what was seen: units by group, and the shape that is left."""
        return self._filled(model, wanted, *self._without_more(model, look, wanted))

    def _look(self, removed: Chosen, dropped: frozenset[str], given: Given) -> Look:
        """See what matters without what is gone."""
        double = double_without(self.module, self.groups, removed, given.batches, dropped)
        left = self.alive(dropped)
        with bypassed(double, dropped):
            alive = self._scores(double, [group for group in self.groups if group.name in left], given)
        harm = harm_of_blocks(double, self.paths, dropped, given) if self.paths else {}
        # what lies in a block that is gone is worth nothing, and follows the groups that it is tied with
        scores = {group.name: alive.get(group.name, torch.zeros(group.units)) for group in self.groups}
        gone = {name: list(units) for name, units in removed.items()}
        orders = {group.name: going_order(group, scores[group.name], gone) for group in self.groups}
        return Look(gone, dropped, scores, orders, harm)

    def _without_more(self, model: CostModel, look: Look, aim: float) -> tuple[dict[str, list[int]], frozenset[str]]:
        """What is gone once the cost is down to `aim`: units by group, and blocks."""
        families, blocks = self.families(look), self._blocks(look.harm)
        shape = self._packed(model, families, blocks, look, aim)
        if model.predict(shape) < aim * (1 - CLOSE):  # blocks are coarse: fewer of them, and widths in their place
            gone = [block for block in blocks if block.path in shape.dropped - look.dropped]
            tried = [shape]
            for spared in sorted(gone, key=lambda block: -block.loss)[:SPARED]:
                others = [block for block in gone if block is not spared]
                tried.append(self._packed(model, families, others, look, aim))
            shape = min(tried, key=lambda shape: _miss(model.predict(shape), aim))
        removed = {name: list(units) for name, units in look.removed.items()}
        for name, order in look.orders.items():
            units = self.units[name] - len(removed.get(name, ())) - shape.kept[name]
            removed.setdefault(name, []).extend(order[:units])
        return removed, shape.dropped

    def _packed(
        self,
        model: CostModel,
        families: Sequence[Family],
        blocks: Sequence[Block],
        look: Look,
        aim: float,
    ) -> Shape:
        """What the knapsack leaves, from what was left when it was looked at."""
        bag = Knapsack(model.layers, model.layer_cost, families, blocks, self._left(look.removed))
        bag.dropped |= look.dropped
        return bag.run(aim)

    def _filled(
        self, model: CostModel, wanted: float, removed: dict[str, list[int]], blocks: frozenset[str]
    ) -> tuple[dict[str, list[int]], Shape]:
        """The same with as much given back as there is room for: what fills it best first, a block or some units."""
        dropped = set(blocks)
        while True:
            now = self._left(removed)
            higher: list[Shape] = [Shape(now, frozenset(dropped - {path})) for path in sorted(dropped)]
            for part, ladder in zip(self.together, self.ladders, strict=True):
                above = [level for level in ladder if all(level[group.name] > now[group.name] for group in part)]
                higher += [Shape({**now, **above[-1]}, frozenset(dropped))] if above else []
            costs = [model.predict(shape) for shape in higher]
            fitting = [number for number, cost in enumerate(costs) if cost <= wanted]
            best = max(fitting, key=costs.__getitem__, default=None)
            if best is None or costs[best] <= model.predict(Shape(now, frozenset(dropped))):
                return removed, Shape(now, frozenset(dropped))
            dropped = set(higher[best].dropped)
            for name, units in higher[best].kept.items():
                del removed.setdefault(name, [])[self.units[name] - units :]  # those that went last come back

    def worth(self, removed: Chosen, dropped: Collection[str], given: Given) -> dict[str, float]:
        """What the channels that a layer loses were worth in the whole network, as `worth_of_removed` gives it."""
        scores = self._scores(copy.deepcopy(self.module), self.groups, given)
        return worth_of_removed(self.groups, scores, removed, dropped)

    def _scores(self, double: nn.Module, groups: Sequence[Group], given: Given) -> dict[str, Tensor]:
        """Scores that compare between groups: changes of the loss, as blocks are judged by, or as the measure says."""
        measure = MEASURES[self.settings.importance]
        scores = measure.score(double, groups, given)
        if self.paths or measure.comparable != "normalised":
            return scores
        return {name: normalised(found) for name, found in scores.items()}

    def families(self, look: Look) -> list[Family]:
        """What tied groups may keep, from what they have now downwards, and the importance of what goes."""
        found, left = [], self._left(look.removed)
        for part, ladder in zip(self.together, self.ladders, strict=True):
            now = {group.name: left[group.name] for group in part}
            levels = [level for level in ladder if all(level[name] <= units for name, units in now.items())]
            sums = {name: look.scores[name][look.orders[name]].double().cumsum(0) for name in now}
            losses = [
                sum(float(sums[name][units - level[name] - 1]) for name, units in now.items() if units > level[name])
                for level in levels
            ]
            found.append(Family(tuple(levels), tuple(losses)))
        return found

    def _left(self, removed: Chosen) -> dict[str, int]:
        """Units that groups have without those removed."""
        return {name: units - len(removed.get(name, ())) for name, units in self.units.items()}

    def _blocks(self, harm: Mapping[str, float]) -> list[Block]:
        """The blocks that may go; of a container whose every entry may go, one has to stay."""
        found = []
        for path in self.paths:
            home, _, _ = path.rpartition(".")
            container = self.module.get_submodule(home)
            entries = {f"{home}.{name}" if home else name for name, _ in container.named_children()}
            found.append(Block(path, harm.get(path, 0.0), home if entries <= set(self.paths) else ""))
        return found


def _holds(path: str, modules: Iterable[str]) -> bool:
    """Whether one of the modules stands inside of another, by name."""
    return any(is_under(name, {path}) for name in modules)


def _is_within(level: Kept, span: Span) -> bool:
    """Whether all groups of a level that are in the span keep what they may."""
    limits = ((units, *span[name]) for name, units in level.items() if name in span)
    return all(least <= units and (most is None or units <= most) for units, least, most in limits)


def _ladder(groups: Sequence[Group], settings: Pruning) -> list[Kept]:
    """The units that tied groups may keep, falling, thinned out to `LEVELS`."""
    each = per_step(groups)
    steps = thinned(tied_steps(groups, settings.round_to, settings.minimum_share))
    return [{group.name: step * units for group, units in zip(groups, each, strict=True)} for step in steps]


def thinned(steps: Sequence[int]) -> list[int]:
    """At most `LEVELS` of some numbers: the first, the last, and such as stand about evenly between them.

    Of those that stand near such a place the roundest is taken, with the highest power of two in it: processors compute
    so many channels at once.
    """
    if len(steps) <= LEVELS:
        return list(steps)
    space, found = (len(steps) - 1) / (LEVELS - 1), [steps[0]]
    for place in (index * space for index in range(1, LEVELS - 1)):
        near = [at for at in range(len(steps)) if -space / 2 < at - place <= space / 2]
        found.append(steps[max(near, key=lambda at: (steps[at] & -steps[at], -abs(at - place)))])
    return [*found, steps[-1]]


def _miss(cost: float, wanted: float) -> float:
    """How far a cost is from what is wanted; too much counts most."""
    return wanted - cost if cost <= wanted else 10 * (cost - wanted)
