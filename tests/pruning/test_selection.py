from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import pytest
import torch

from compress.pruning.groups import Group
from compress.pruning.selection import (
    Block,
    OutOfReachError,
    normalised,
    order_blocks,
    per_saving,
    select,
    union,
)


def test_normalised_scores_have_mean_one() -> None:
    assert normalised(torch.tensor([1.0, 3.0])).tolist() == [0.5, 1.5]
    assert normalised(torch.zeros(2)).tolist() == [0.0, 0.0]


def test_changes_are_set_against_the_root_of_what_is_saved() -> None:
    assert per_saving(torch.tensor([2.0, 0.0]), 0.25).tolist() == [4.0, 0.0]
    assert per_saving(torch.tensor([1.0]), 0.0).isfinite().all()


A, B = Group("a", 4, 1, ()), Group("b", 2, 1, ())
SCORES = {"a": torch.tensor([4.0, 1.0, 3.0, 2.0]), "b": torch.tensor([4.5, 1.5])}


def test_global_order_compares_scores() -> None:
    blocks = order_blocks([A, B], SCORES, {}, families=None, round_to=1, minimum_share=0.1)
    assert [(block.group, block.units) for block in blocks] == [("a", (1,)), ("b", (1,)), ("a", (3,)), ("a", (2,))]


def test_layer_order_takes_the_same_share_of_each() -> None:
    blocks = order_blocks([A, B], SCORES, {}, families={"a": "a", "b": "b"}, round_to=1, minimum_share=0.1)
    assert [(block.group, block.rank) for block in blocks] == [("a", 0.25), ("a", 0.5), ("b", 0.5), ("a", 0.75)]


def test_a_family_is_ranked_within_and_loses_the_same_share_as_others() -> None:
    other = Group("c", 3, 2, ())
    scores = {**SCORES, "c": torch.tensor([100.0, 300.0, 200.0])}
    families = {"a": 1, "b": 1, "c": 2}
    blocks = order_blocks([A, B, other], scores, {}, families=families, round_to=1, minimum_share=0.1)
    within = [(block.group, block.units) for block in blocks if block.group != "c"]
    assert within == [("a", (1,)), ("b", (1,)), ("a", (3,)), ("a", (2,))]  # as the scores of the two compare
    assert [block.rank for block in blocks if block.group != "c"] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6])
    assert [(b.units, b.rank) for b in blocks if b.group == "c"] == [((0,), pytest.approx(1 / 3)), ((2,), 2 / 3)]
    assert [block.rank for block in blocks] == sorted(block.rank for block in blocks)


def test_a_family_that_has_lost_more_waits() -> None:
    families = {"a": 1, "b": 2}
    blocks = order_blocks([A, B], SCORES, {"a": [1, 3]}, families=families, round_to=1, minimum_share=0.1)
    assert [(block.group, block.rank) for block in blocks] == [("b", 0.5), ("a", 0.75)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scope", ["global", "layer", "isomorphic"])
def test_no_group_ends_whatever_is_asked(seed: int, scope: str) -> None:
    generator = torch.Generator().manual_seed(seed)

    def number(high: int) -> int:
        return int(torch.randint(1, high, (), generator=generator))

    groups = [Group(f"g{i}", 1 + number(40), number(4), ()) for i in range(8)]
    scores = {group.name: torch.rand(group.units, generator=generator) for group in groups}
    families: dict[str, Mapping[str, Hashable]] = {
        "layer": {g.name: g.name for g in groups},
        "isomorphic": {g.name: g.unit_size for g in groups},
    }
    gone: dict[str, list[int]] = {}
    for round_to, share in ((1, 0.3), (number(9), 1e-9)):  # the second time after some have gone
        blocks = order_blocks(
            groups, scores, gone, families=families.get(scope), round_to=round_to, minimum_share=share
        )
        gone = union(blocks, gone)
        for group in groups:
            units = gone.get(group.name, [])
            assert len(units) == len(set(units)) < group.units


def test_heads_are_not_rounded() -> None:
    from compress.pruning.heads import Heads

    group = Group("q", 6, 8, (), Heads("attention", 6, 8, ()))
    blocks = order_blocks([group], {"q": torch.arange(6.0)}, {}, families=None, round_to=128, minimum_share=0.1)
    assert [block.units for block in blocks] == [(0,), (1,), (2,), (3,), (4,)]


def _share(sizes: Mapping[str, float]) -> Callable[[Mapping[str, Sequence[int]]], float]:
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
    blocks, share = _blocks(["a", "b"] * 15), _share({"a": 0.02, "b": 0.025})
    chosen = select(blocks, share, wanted)
    starts = [union(blocks[:end]) for end in range(1, 31)]
    assert chosen in starts
    assert abs(share(chosen) - wanted) == min(abs(share(start) - wanted) for start in starts)


def test_a_later_block_is_taken_where_the_next_is_too_big() -> None:
    blocks, share = _blocks(["small", "big", "small", "small"]), _share({"small": 0.1, "big": 0.5})
    assert select(blocks, share, 0.8) == {"small": [0, 1]}


def test_what_is_too_big_is_gone_round_with_as_many_as_it_takes() -> None:
    """Ten small ones come nearer than the big one in their way, and a second big one does not stop them either."""
    blocks, share = (
        _blocks(["big", *["small"] * 4, "huge", *["small"] * 20]),
        _share({"small": 0.01, "big": 0.4, "huge": 0.5}),
    )
    assert select(blocks, share, 0.9) == {"small": list(range(10))}


def test_blocks_of_a_group_stay_in_their_order() -> None:
    blocks = [Block("big", (0,), 0.0), Block("big", (1,), 1.0), Block("other", (0,), 2.0)]
    assert select(blocks, _share({"big": 0.4, "other": 0.01}), 0.95) == {"other": [0]}
    assert select(blocks, _share({"big": 0.4, "other": 0.01}), 0.6) == {"big": [0]}


def test_selection_goes_on_from_what_is_gone() -> None:
    blocks = order_blocks([A, B], SCORES, {"a": [1, 3]}, families=None, round_to=1, minimum_share=0.1)
    assert [(block.group, block.units) for block in blocks] == [("b", (1,)), ("a", (2,))]
    assert select(blocks, _share({"a": 0.1, "b": 0.1}), 0.7, {"a": [1, 3]}) == {"a": [1, 3], "b": [1]}


def test_something_always_goes() -> None:
    assert select(_blocks(["a", "a"]), _share({"a": 0.1}), 0.99) == {"a": [0]}


def test_out_of_reach_says_what_is_left() -> None:
    with pytest.raises(OutOfReachError) as caught:
        select(_blocks(["a"] * 4), _share({"a": 0.1}), 0.5)
    assert caught.value.least == pytest.approx(0.6)
