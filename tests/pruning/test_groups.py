from __future__ import annotations

from compress.pruning.groups import Group, Place, Traced, form_groups, places
from compress.pruning.heads import Attention, Heads, Split
from compress.pruning.labels import Labels

NONE = Attention((), Labels().within([]), "heads")


def test_single_channels_are_units_and_groups_are_named_for_what_makes_them() -> None:
    labels = Labels()
    a, b = labels.fresh(8), labels.fresh(4)
    found: dict[Place, Traced] = {("b", "in"): Traced(a), ("a", "out"): Traced(a), ("b", "out"): Traced(b)}
    groups, fixed = form_groups(found, ["a", "b"], labels, NONE)
    assert [(group.name, group.units, group.unit_size, group.channels) for group in groups] == [
        ("a", 8, 1, 8),
        ("b", 4, 1, 4),
    ]
    assert fixed == {}
    assert {(member.path, member.axis) for member in groups[0].members} == {("a", "out"), ("b", "in")}
    assert groups[0].members[0].indices == groups[0].members[0].units == tuple(range(8))


def test_what_is_joined_goes_together() -> None:
    labels = Labels()
    a, b = labels.fresh(8), labels.fresh(8)
    labels.tie(a, 2)
    labels.join(a, b)
    groups, _ = form_groups({("a", "out"): Traced(a), ("b", "out"): Traced(b)}, ["a", "b"], labels, NONE)
    [group] = groups
    assert (group.name, group.units, group.unit_size) == ("a", 4, 2)
    assert [member.units for _, member in places(groups)["b", "out"]] == [(0, 1, 2, 3, 0, 1, 2, 3)]


def test_units_of_different_sizes_are_groups_of_their_own() -> None:
    labels = Labels()
    a = labels.fresh(8)
    labels.tie(a[:4], 2)
    groups, _ = form_groups({("a", "out"): Traced(a)}, ["a"], labels, NONE)
    assert [(group.name, group.units, group.unit_size) for group in groups] == [("a (by 2)", 2, 2), ("a (by 1)", 4, 1)]


def test_what_stays_is_named_with_its_reason() -> None:
    labels = Labels()
    a, b = labels.fresh(4), labels.fresh(4)
    labels.fix(a, "the output")
    labels.tie(b, 4)
    groups, fixed = form_groups({("a", "out"): Traced(a), ("b", "out"): Traced(b)}, ["a", "b"], labels, NONE)
    assert groups == []
    assert fixed == {"a": "the output", "b": "its channels can only go all together"}


def test_heads_belong_to_the_module_that_counts_them() -> None:
    labels = Labels()
    query = labels.fresh(12)
    heads, _ = labels.split(query, (3, 4), 0)
    attention = Attention((Split("attention", heads, 3, 4),), labels.within([heads]), "heads")
    labels.settle()
    [group], _ = form_groups({("attention.q", "out"): Traced(query)}, ["attention.q"], labels, attention)
    assert group.heads == Heads("attention", 3, 4, (("attention.q", tuple(range(12))),))
    assert (group.units, group.unit_size, group.counted) == (3, 4, (group.heads,))


def test_a_group_is_plain_data() -> None:
    assert Group("a", 2, 1, ()) == Group("a", 2, 1, ())
