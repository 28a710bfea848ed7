from __future__ import annotations

import pytest
import torch

from compress.pruning.groups import Group
from compress.pruning.heads import Heads
from compress.pruning.selection import order_blocks, union
from compress.pruning.ties import kept_steps, per_step, tied, tied_steps

HIDDEN = Group("hidden", 24, 1, ())
HEADS = Group("query", 6, 4, (), Heads("attention", 6, 4, ()))
ALONE = Group("alone", 8, 1, ())


@pytest.mark.parametrize(
    ("units", "unit_size", "round_to", "minimum_share", "expected"),
    [
        (32, 1, 8, 0.1, [32, 24, 16, 8]),
        (20, 1, 8, 0.1, [20, 16, 8]),
        (32, 1, 8, 0.5, [32, 24, 16]),
        (32, 1, 8, 1.0, [32]),
        (8, 1, 8, 0.1, [8]),
        (6, 1, 8, 0.1, [6]),
        (4, 1, 1, 0.1, [4, 3, 2, 1]),
        (8, 4, 8, 0.1, [8, 6, 4, 2]),
        (8, 3, 8, 0.1, [8]),
        (16, 3, 8, 0.1, [16, 8]),
    ],
)
def test_kept_steps(units: int, unit_size: int, round_to: int, minimum_share: float, expected: list[int]) -> None:
    assert kept_steps(units, unit_size, round_to, minimum_share) == expected


def test_groups_of_one_tie_come_together_in_the_order_of_the_network() -> None:
    assert tied([HIDDEN, ALONE, HEADS], {"hidden": 1, "query": 1}) == [[HIDDEN, HEADS], [ALONE]]
    assert tied([HIDDEN, ALONE], {}) == [[HIDDEN], [ALONE]]


def test_a_step_takes_the_same_share_of_each() -> None:
    assert per_step([HIDDEN, HEADS]) == [4, 1]
    assert tied_steps([HIDDEN, HEADS], 1, 0.1) == [6, 5, 4, 3, 2, 1]
    assert tied_steps([HIDDEN, HEADS], 8, 0.3) == [6, 4, 2]  # 24, 16 and 8 channels
    assert tied_steps([HEADS], 128, 0.1) == [6, 5, 4, 3, 2, 1]


def test_tied_groups_lose_their_own_least_important_units_at_once() -> None:
    scores = {"hidden": torch.arange(24.0), "query": torch.tensor([5.0, 0.0, 4.0, 3.0, 2.0, 1.0])}
    ties = {"hidden": 1, "query": 1}
    blocks = order_blocks([HIDDEN, HEADS], scores, {}, families=None, round_to=1, minimum_share=0.4, ties=ties)
    assert [dict(block.parts) for block in blocks] == [
        {"hidden": (0, 1, 2, 3), "query": (1,)},
        {"hidden": (4, 5, 6, 7), "query": (5,)},
        {"hidden": (8, 9, 10, 11), "query": (4,)},
    ]
    assert blocks[0].rank == pytest.approx((0 + 1 + 2 + 3 + 0) / 5)
    gone = union(blocks[:2])
    assert gone == {"hidden": [0, 1, 2, 3, 4, 5, 6, 7], "query": [1, 5]}
    again = order_blocks([HIDDEN, HEADS], scores, gone, families=None, round_to=1, minimum_share=0.4, ties=ties)
    assert [dict(block.parts) for block in again] == [dict(blocks[2].parts)]


def test_in_a_scope_they_count_as_the_first_ones_family() -> None:
    scores = {"hidden": torch.arange(24.0), "query": torch.arange(6.0), "alone": torch.arange(8.0)}
    families = {"hidden": "h", "query": "q", "alone": "a"}
    groups, ties = [HIDDEN, HEADS, ALONE], {"hidden": 1, "query": 1}
    blocks = order_blocks(groups, scores, {}, families=families, round_to=4, minimum_share=0.5, ties=ties)
    assert [block.group for block in blocks] == ["hidden", "hidden", "hidden", "alone"]
    assert [block.rank for block in blocks] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 8])
