from __future__ import annotations

from collections.abc import Callable

import pytest

from compress.quantization.post_training.sensitivity import fewest_in_float, sensitivities
from compress.quantization.template import Template, template_of
from tests.quantization.graphs import two_convolutions

ORDER = [f"layer{i}" for i in range(40)]


class Asks:
    """A question that counts how often it was asked."""

    def __init__(self, answer: Callable[[frozenset[str]], bool]) -> None:
        self.answer, self.count = answer, 0

    def __call__(self, names: frozenset[str]) -> bool:
        self.count += 1
        return self.answer(names)


@pytest.mark.parametrize("needed", [0, 1, 2, 7, 20, 39])
def test_the_first_few_are_found_where_those_are_needed(needed: int) -> None:
    asks = Asks(lambda names: names >= set(ORDER[:needed]))
    assert fewest_in_float(ORDER, asks) == frozenset(ORDER[:needed])
    assert asks.count <= 6 + 12


@pytest.mark.parametrize("needed", [{"layer0"}, {"layer3"}, {"layer2", "layer9"}, {"layer5", "layer6", "layer8"}])
def test_what_was_not_needed_is_taken_back(needed: set[str]) -> None:
    asks = Asks(lambda names: names >= needed)
    assert fewest_in_float(ORDER, asks) == frozenset(needed)
    assert asks.count <= 6 + 12


def test_no_more_than_so_many_are_tried() -> None:
    asks = Asks(lambda names: "layer30" in names)
    found = fewest_in_float(ORDER, asks, trials=5)
    assert found is not None
    assert len(found) == 31 - 5
    assert asks.count <= 6 + 5


def test_nothing_in_float_where_the_budget_is_met_anyway() -> None:
    assert fewest_in_float(ORDER, lambda _: True) == frozenset()


def test_none_where_it_takes_all_or_nothing_helps() -> None:
    assert fewest_in_float(ORDER, lambda names: len(names) == len(ORDER)) is None
    assert fewest_in_float(ORDER, lambda _: False) is None
    assert fewest_in_float([], lambda _: False) is None


@pytest.mark.parametrize("seed", range(5))
def test_what_is_found_is_enough_though_more_in_float_may_be_worse(seed: int) -> None:
    """Not monotone: a set is enough by the sum of its costs, some of which are negative."""
    import random

    chance = random.Random(seed)
    costs = {name: chance.gauss(1 - i / 40, 0.6) for i, name in enumerate(ORDER)}

    def is_enough(names: frozenset[str]) -> bool:
        return sum(costs[name] for name in names) > 4

    found = fewest_in_float(ORDER, is_enough)
    assert found is not None
    assert is_enough(found)
    assert len(found) < len(ORDER)


def test_each_layer_is_asked_about_alone() -> None:
    template = template_of(two_convolutions())
    asked: list[set[str]] = []

    def error_of(found: Template) -> float:
        asked.append(set(found.layers))
        return float(len(asked))

    assert sensitivities(template, error_of) == {"c1": 1.0, "c2": 2.0, "y": 3.0}
    assert asked == [{"c1"}, {"c2"}, {"y"}]
