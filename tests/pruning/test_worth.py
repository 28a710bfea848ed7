from __future__ import annotations

import pytest
import torch

from compress.pruning.groups import Group, Member
from compress.pruning.worth import worth_of_removed


def group(name: str, units: int, *outputs: str) -> Group:
    whole = tuple(range(units))
    members = [Member(path, "out", whole, whole) for path in outputs] + [Member("next", "in", whole, whole)]
    return Group(name, units, 1, tuple(members))


GROUPS = [group("a", 4, "a", "norm"), group("b", 2, "b", "block.b")]
SCORES = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([10.0, 16.0])}  # their mean is 6


def test_is_the_mean_of_what_went_over_the_mean_of_all() -> None:
    found = worth_of_removed(GROUPS, SCORES, {"a": [0, 2], "b": [1]})
    assert found == pytest.approx({"a": 2 / 6, "norm": 2 / 6, "b": 16 / 6, "block.b": 16 / 6})


def test_layers_that_lose_nothing_or_everything_with_their_block_are_left_out() -> None:
    assert set(worth_of_removed(GROUPS, SCORES, {"a": [], "b": [0]}, ["block"])) == {"b"}


def test_everything_gone_is_worth_the_mean() -> None:
    found = worth_of_removed([GROUPS[0]], SCORES, {"a": [0, 1, 2, 3]})
    assert found["a"] == pytest.approx(1)


def test_a_layer_in_two_groups_has_the_mean_of_both() -> None:
    groups = [group("a", 4, "both"), group("b", 2, "both")]
    assert worth_of_removed(groups, SCORES, {"a": [3], "b": [0]})["both"] == pytest.approx(7 / 6)


def test_scores_that_are_all_zero_say_nothing() -> None:
    assert worth_of_removed(GROUPS, {"a": torch.zeros(4), "b": torch.zeros(2)}, {"a": [0]}) == {}
    assert worth_of_removed([], {}, {}) == {}
