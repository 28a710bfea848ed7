"""What is learned from judged choices, where what parts are worth is known: it was planted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.pruning.candidates import Contest
from compress.pruning.cost_search import Look, Search
from compress.pruning.learned_worth import Learner
from compress.pruning.noted import Noted
from compress.pruning.shape import Shape
from compress.stage import Silent
from tests.pruning.test_cost_search import labelled, opened

Make = Callable[[str], nn.Module]


class Planted:
    """Distances of which it is known what each part adds to their logarithm."""

    def __init__(self, search: Search) -> None:
        random = np.random.default_rng(5)
        self.search = search
        self.groups = {group.name: float(random.uniform(0.1, 2.0)) for group in search.groups}
        self.blocks = {path: float(random.uniform(0.1, 2.0)) for path in search.paths}

    def distance(self, shape: Shape) -> float:
        """By the share of units that each group loses outside of blocks that are gone, and by these."""
        alive = self.search.alive(shape.dropped)
        added = sum(self.blocks[path] for path in shape.dropped)
        for name, units in self.search.units.items():
            if name in alive:
                added += self.groups[name] * (1 - shape.kept[name] / units)
        return math.exp(added)


@pytest.fixture
def search(network: Make, example: Tensor) -> Search:
    found, _ = opened(network("resnet_a"), [example])
    return found


@pytest.fixture
def even(search: Search) -> Look:
    """All units are worth the same, so that a share of importance is a share of units."""
    seen = search.look_at_whole(labelled(8))
    return replace(seen, scores={name: torch.ones(units) for name, units in search.units.items()})


def shapes(search: Search, count: int) -> list[Shape]:
    random = np.random.default_rng(1)
    found = []
    for _ in range(count):
        kept = dict[str, int]()
        for ladder in search.ladders:
            kept |= ladder[int(random.integers(len(ladder)))]
        dropped = frozenset(path for path in search.paths if random.random() < 0.3)
        found.append(Shape(kept, dropped))
    return found


def learned(search: Search, seen: Look, judged: Sequence[tuple[Shape, float]]) -> Look:
    learner = Learner(search, seen)
    for shape, distance in judged:
        learner.add(shape, distance)
    return learner.look()


def together(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Their correlation."""
    return float(np.corrcoef([one[name] for name in other], list(other.values()))[0, 1])


def test_what_was_planted_is_learned(search: Search, even: Look) -> None:
    planted, examples = Planted(search), shapes(search, 80)
    look = learned(search, even, [(shape, planted.distance(shape)) for shape in examples])
    found = {name: float(look.scores[name].mean()) for name in planted.groups}
    # one unit's worth is what all of them add, over their number
    wanted = {name: value / search.units[name] for name, value in planted.groups.items()}
    assert together(found, wanted) > 0.9
    assert together(look.harm, planted.blocks) > 0.9


def test_widths_inside_of_a_block_that_is_gone_teach_nothing(search: Search, even: Look) -> None:
    block = search.paths[0]
    inside = next(group.name for group in search.groups if group.name.startswith(f"{block}."))
    narrow = next(level for ladder in search.ladders for level in ladder[1:] if inside in level)
    judged = [(shape, 1.0 + number) for number, shape in enumerate(shapes(search, 20))]
    gone = frozenset({block})
    looks = [learned(search, even, [*judged, (Shape({**search.units, **level}, gone), 9.0)]) for level in ({}, narrow)]
    assert looks[0].harm == looks[1].harm
    assert all(torch.equal(looks[0].scores[name], looks[1].scores[name]) for name in search.units)


def test_one_choice_by_what_was_learned_is_about_as_good_as_the_best_of_a_hundred_by_chance(
    search: Search, even: Look, network: Make, example: Tensor
) -> None:
    _, model = opened(network("resnet_a"), [example])
    planted, wanted = Planted(search), 0.5 * model.predict(search.whole)
    look = learned(search, even, [(shape, planted.distance(shape)) for shape in shapes(search, 80)])
    chosen = planted.distance(search.choose(model, wanted, look)[1])
    contest = Contest(search, labelled(8), 100, Silent(), Noted())
    seen = replace(even, harm=dict.fromkeys(even.harm, 10.0))  # an untrained network does not miss its blocks
    by_chance = [
        planted.distance(search.choose(model, wanted, contest.otherwise(seen, 1.0, 1.0))[1]) for _ in range(100)
    ]
    assert chosen <= 1.05 * min(by_chance)
    assert chosen < 0.7 * float(np.median(by_chance))


def test_before_anything_is_learned_all_parts_are_worth_the_same(search: Search, even: Look) -> None:
    look = learned(search, even, [(search.whole, math.inf)])
    assert len(set(look.harm.values())) == 1
    sums = [float(look.scores[name].sum()) for name in search.units]
    assert max(sums) < 1.3 * min(sums)  # but for the floors of the ladders, which differ a little in their shares
