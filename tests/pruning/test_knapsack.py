"""The knapsack against all that could be chosen: what is chosen keeps its bounds, and is as good as a greedy one is."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest

from compress.pruning.knapsack import Block, Family, Knapsack, PartCost, droppable
from compress.pruning.latency.kinds import Layer, LayerKind
from compress.pruning.shape import Channels, Kept, Shape

KIND = LayerKind("conv", (8, 8), (3, 3), (1, 1), (1, 1), (1, 1))


def channels(name: str) -> Channels:
    return Channels(0, ((name, 1.0),))


def chain(names: Sequence[str]) -> list[Layer]:
    """A network whose every layer takes the channels of the one before."""
    given = [Channels(3), *(channels(name) for name in names)]
    return [Layer(name, KIND, given[number], channels(name)) for number, name in enumerate(names)]


def own(layer: Layer, kept: Kept) -> float:
    """A cost that depends on a layer's outputs alone."""
    return float(layer.outputs.left(kept))


def both(layer: Layer, kept: Kept) -> float:
    """A cost that depends on both sides, with something for the layer itself."""
    return 5.0 + layer.inputs.left(kept) * layer.outputs.left(kept)


def stairs(layer: Layer, kept: Kept) -> float:
    """Time that goes in steps of 16 channels."""
    return 100.0 * -(-layer.outputs.left(kept) // 16)


def family(name: str, losses: Sequence[float], step: int = 4) -> Family:
    """One group that may lose `step` units at a time; `losses` are those of each step."""
    total = [0.0, *itertools.accumulate(losses)]
    units = step * (len(losses) + 1)
    return Family(tuple({name: units - step * level} for level in range(len(total))), tuple(total))


def everything(bag: Knapsack) -> Iterator[tuple[float, float]]:
    """(cost, loss) of each choice that is allowed."""
    homes = {block.home for block in bag.blocks if block.home}
    for levels in itertools.product(*(range(len(family.levels)) for family in bag.families)):
        for number in range(len(bag.blocks) + 1):
            for gone in itertools.combinations(bag.blocks, number):
                if any(all(b in gone for b in bag.blocks if b.home == home) for home in homes):
                    continue
                kept = dict(bag.fixed)
                for one, level in zip(bag.families, levels, strict=True):
                    kept.update(one.levels[level])
                away = {block.path for block in gone}
                left = [layer for layer in bag.layers if not any(layer.name.startswith(f"{p}.") for p in away)]
                loss = sum(one.losses[level] for one, level in zip(bag.families, levels, strict=True))
                yield sum(bag.cost(layer, kept) for layer in left), loss + sum(block.loss for block in gone)


def judged(bag: Knapsack, shape: Shape) -> float:
    """The loss of a choice."""
    levels = [
        next(i for i, level in enumerate(one.levels) if all(shape.kept[name] == units for name, units in level.items()))
        for one in bag.families
    ]
    blocks = sum(block.loss for block in bag.blocks if block.path in shape.dropped)
    return blocks + sum(one.losses[level] for one, level in zip(bag.families, levels, strict=True))


def drawn(seed: int, cost: PartCost, homes: Sequence[str] = ("", "stages")) -> Knapsack:
    """Some families with losses that grow, and blocks in some homes; that without a name may lose all."""
    draw = random.Random(seed)
    names = [f"stage{number % 2}.{number}.conv" for number in range(3)] + ["head"]
    families = [
        family(name, sorted(draw.uniform(0.1, 2) for _ in range(3)), step=draw.choice((2, 4, 8))) for name in names
    ]
    blocks = [Block(name.removesuffix(".conv"), draw.uniform(0.5, 4), draw.choice(homes)) for name in names[:3]]
    return Knapsack(chain(names), cost, families, blocks)


@pytest.mark.parametrize("cost", [own, both, stairs])
@pytest.mark.parametrize("seed", range(12))
def test_it_reaches_what_is_wanted_at_little_more_than_the_least_loss(cost: PartCost, seed: int) -> None:
    whole = drawn(seed, cost).total()
    least = min(found for found, _ in everything(drawn(seed, cost)))
    for share in (0.8, 0.5, 0.3):
        bag = drawn(seed, cost)
        wanted = max(share * whole, least)
        shape = bag.run(wanted)
        assert bag.total() <= wanted + 1e-9
        optimum = min(loss for found, loss in everything(drawn(seed, cost)) if found <= wanted + 1e-9)
        largest = max([max(b - a for a, b in itertools.pairwise(one.losses)) for one in bag.families])
        largest = max(largest, *(block.loss for block in bag.blocks))
        assert optimum - 1e-9 <= judged(bag, shape) <= 1.5 * optimum + largest


@pytest.mark.parametrize("seed", range(10))
def test_of_equal_steps_the_choice_is_the_best(seed: int) -> None:
    draw = random.Random(seed)
    families = [family(name, sorted(draw.uniform(0.1, 2) for _ in range(3))) for name in "abcd"]
    for steps in range(13):
        bag = Knapsack(chain("abcd"), own, families)
        wanted = bag.total() - 4 * steps
        shape = bag.run(wanted)
        optimum = min(loss for found, loss in everything(Knapsack(chain("abcd"), own, families)) if found <= wanted)
        assert bag.total() == wanted
        assert judged(bag, shape) == pytest.approx(optimum)


@pytest.mark.parametrize("cost", [own, both, stairs])
@pytest.mark.parametrize("seed", range(5))
def test_what_cannot_be_reached_ends_at_the_least_there_is(cost: PartCost, seed: int) -> None:
    bag = drawn(seed, cost, homes=("",))
    bag.run(-1.0)
    assert bag.total() == min(found for found, _ in everything(drawn(seed, cost, homes=("",))))
    bag = drawn(seed, cost)
    assert len(bag.run(-1.0).dropped) == len(droppable(bag.blocks))


@pytest.mark.parametrize("cost", [own, both])
def test_the_total_is_that_of_the_shape(cost: PartCost) -> None:
    for seed in range(5):
        bag = drawn(seed, cost)
        shape = bag.run(0.4 * bag.total())
        left = [layer for layer in bag.layers if not any(layer.name.startswith(f"{path}.") for path in shape.dropped)]
        assert bag.total() == pytest.approx(sum(cost(layer, shape.kept) for layer in left))
        assert bag.shape == shape


def test_plateaus_are_jumped() -> None:
    """32 channels in steps of 4: nothing is saved until 16 are gone, and then no more than 16 go."""
    bag = Knapsack(chain("a"), stairs, [family("a", [1.0] * 7)])
    assert bag.run(199.0).kept == {"a": 16}


def test_what_was_too_much_is_given_back() -> None:
    """First the cheap small steps go, then a large one that makes them needless."""
    families = [family("a", [0.1]), family("b", [10.0], step=100)]
    bag = Knapsack(chain("ab"), own, families)
    wanted = bag.total() - 100
    assert bag.run(wanted).kept == {"a": 8, "b": 100}


def test_nothing_goes_where_enough_is_saved_already() -> None:
    bag = drawn(0, both)
    whole = bag.shape
    assert bag.run(bag.total()) == whole
    assert whole.dropped == frozenset()


def test_a_cheap_block_goes_before_dear_channels() -> None:
    layers = [
        Layer("one.conv", KIND, channels("a"), channels("b")),
        Layer("two.conv", KIND, channels("a"), channels("b")),
    ]
    families = [family("a", [5.0]), family("b", [5.0])]
    bag = Knapsack(layers, both, families, [Block("one", 1.0, ""), Block("two", 2.0, "")])
    shape = bag.run(0.5 * bag.total())
    assert shape.dropped == {"one"} and shape.kept == {"a": 8, "b": 8}


def test_channels_of_a_block_that_went_are_given_back() -> None:
    names = ["one.conv", "two.conv"]
    bag = Knapsack(chain(names), own, [family(names[0], [0.0] * 5), family(names[1], [9.0])], [Block("one", 0.0, "")])
    assert bag.run(bag.total() - 24) == Shape({"one.conv": 24, "two.conv": 8}, frozenset({"one"}))


@pytest.mark.parametrize(("home", "left"), [("stage", 1), ("", 0)])
def test_a_home_keeps_one_block(home: str, left: int) -> None:
    names = [f"stage.{number}.conv" for number in range(3)]
    blocks = [Block(f"stage.{number}", float(number), home) for number in range(3)]
    fixed = dict.fromkeys(names, 8)
    bag = Knapsack(chain(names), own, (), blocks, fixed)
    assert droppable(blocks) == ({"stage.0", "stage.1"} if left else {"stage.0", "stage.1", "stage.2"})
    assert len(bag.run(0.0).dropped) == 3 - left
    assert bag.kept == fixed


def test_groups_of_a_family_go_together() -> None:
    levels = ({"a": 8, "b": 4}, {"a": 6, "b": 3}, {"a": 4, "b": 2})
    bag = Knapsack(chain("abc"), both, [Family(levels, (0.0, 1.0, 3.0))], (), {"c": 4})
    shape = bag.run(0.7 * bag.total())
    assert shape.kept in [{**level, "c": 4} for level in levels[1:]]
    assert bag.families[0].groups == ("a", "b")


def test_savings_are_looked_at_anew() -> None:
    """Of two layers between three groups one saves less once the other's side of it is narrow."""

    def make() -> Knapsack:
        return Knapsack(chain("ab"), both, [family("a", [1.0] * 3), family("b", [1.0] * 3)])

    bag, wanted = make(), 0.35 * make().total()
    assert judged(bag, bag.run(wanted)) == pytest.approx(
        min(loss for cost, loss in everything(make()) if cost <= wanted)
    )
