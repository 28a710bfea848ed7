from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from compress.pruning.groups import Group
from compress.pruning.selection import (
    Block,
    OutOfReachError,
    kept_steps,
    normalised,
    order_blocks,
    per_saving,
    select,
    union,
)


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


def test_normalised_scores_have_mean_one() -> None:
    assert normalised(torch.tensor([1.0, 3.0])).tolist() == [0.5, 1.5]
    assert normalised(torch.zeros(2)).tolist() == [0.0, 0.0]


def test_changes_are_set_against_the_root_of_what_is_saved() -> None:
    assert per_saving(torch.tensor([2.0, 0.0]), 0.25).tolist() == [4.0, 0.0]
    assert per_saving(torch.tensor([1.0]), 0.0).isfinite().all()


A, B = Group("a", 4, 1, ()), Group("b", 2, 1, ())
SCORES = {"a": torch.tensor([4.0, 1.0, 3.0, 2.0]), "b": torch.tensor([4.5, 1.5])}


def test_global_order_compares_scores() -> None:
    blocks = order_blocks([A, B], SCORES, scope="global", round_to=1, minimum_share=0.1)
    assert [(block.group, block.units) for block in blocks] == [("a", (1,)), ("b", (1,)), ("a", (3,)), ("a", (2,))]


def test_layer_order_takes_the_same_share_of_each() -> None:
    blocks = order_blocks([A, B], SCORES, scope="layer", round_to=1, minimum_share=0.1)
    assert [(block.group, block.rank) for block in blocks] == [("a", 0.25), ("a", 0.5), ("b", 0.5), ("a", 0.75)]


def test_heads_are_not_rounded() -> None:
    from compress.pruning.heads import Heads

    group = Group("q", 6, 8, (), Heads("attention", 6, 8, ()))
    blocks = order_blocks([group], {"q": torch.arange(6.0)}, scope="global", round_to=128, minimum_share=0.1)
    assert [block.units for block in blocks] == [(0,), (1,), (2,), (3,), (4,)]


def _share(sizes: Mapping[str, float]) -> object:
    def share(removed: Mapping[str, Sequence[int]]) -> float:
        return 1 - sum(sizes[name] * len(units) for name, units in removed.items())

    return share


def _blocks(groups: Sequence[str]) -> list[Block]:
    counts: dict[str, int] = {}
    found = []
    for rank, name in enumerate(groups):
        found.append(Block(name, (counts.get(name, 0),), rank))
        counts[name] = counts.get(name, 0) + 1
    return found


@pytest.mark.parametrize("wanted", [0.9, 0.75, 0.5, 0.35])
def test_selection_is_the_start_of_the_order_and_the_nearest_to_what_is_wanted(wanted: float) -> None:
    blocks = _blocks(["a", "b"] * 15)
    share = _share({"a": 0.02, "b": 0.025})
    chosen = select(blocks, share, wanted)  # type: ignore[arg-type]
    assert chosen == blocks[: len(chosen)]
    starts = [share(union(blocks[:end])) for end in range(1, 31)]  # type: ignore[operator]
    assert abs(share(union(chosen)) - wanted) == min(abs(left - wanted) for left in starts)  # type: ignore[operator]


def test_a_later_block_is_taken_where_the_next_is_too_big() -> None:
    blocks = _blocks(["small", "big", "small", "small"])
    share = _share({"small": 0.1, "big": 0.5})
    chosen = select(blocks, share, 0.8)  # type: ignore[arg-type]
    assert [block.group for block in chosen] == ["small", "small"]


def test_blocks_of_a_group_stay_in_their_order() -> None:
    blocks = [Block("big", (0,), 0.0), Block("big", (1,), 1.0), Block("other", (0,), 2.0)]
    share = _share({"big": 0.4, "other": 0.01})
    chosen = select(blocks, share, 0.95)  # type: ignore[arg-type]
    assert [block.units for block in chosen if block.group == "big"] in ([], [(0,)])


def test_out_of_reach_says_what_is_left() -> None:
    with pytest.raises(OutOfReachError) as caught:
        select(_blocks(["a"] * 4), _share({"a": 0.1}), 0.5)  # type: ignore[arg-type]
    assert caught.value.least == pytest.approx(0.6)
