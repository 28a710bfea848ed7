from __future__ import annotations

from torch import nn

from compress.pruning.groups import Group, Member, RawGroup, form_groups, places


def _net() -> nn.Module:
    return nn.ModuleDict({"a": nn.Conv2d(3, 8, 1), "g": nn.Conv2d(8, 8, 1, groups=2), "b": nn.Conv2d(3, 4, 1)})


def _raw(name: str, channels: int, *members: tuple[str, str, list[int], list[int]]) -> RawGroup:
    return RawGroup(name, channels, [Member(p, axis, tuple(i), tuple(u)) for p, axis, i, u in members])  # type: ignore[arg-type]


def test_single_channels_are_units() -> None:
    found, fixed = form_groups(_net(), [_raw("a", 8, ("a", "out", list(range(8)), list(range(8))))], [])
    assert fixed == {}
    assert (found[0].units, found[0].unit_size, found[0].channels) == (8, 1, 8)


def test_same_positions_of_convolution_groups_go_together() -> None:
    everything = list(range(8))
    raw = _raw("a", 8, ("a", "out", everything, everything), ("g", "in", everything, everything))
    group = form_groups(_net(), [raw], [])[0][0]
    assert (group.units, group.unit_size) == (4, 2)
    assert group.members[0].units == (0, 1, 2, 3, 0, 1, 2, 3)


def test_traced_groups_that_meet_in_one_convolution_group_become_one() -> None:
    four = list(range(4))
    left = _raw("a", 4, ("a", "out", four, four), ("g", "in", four, four))
    right = _raw("b", 4, ("b", "out", four, four), ("g", "in", [4, 5, 6, 7], four))
    found, _ = form_groups(_net(), [left, right], [])
    assert len(found) == 1
    assert (found[0].name, found[0].units, found[0].unit_size) == ("a", 4, 2)
    assert [member.path for _, member in places(found)["g", "in"]] == ["g", "g"]


def test_channels_that_can_only_go_all_together_are_fixed() -> None:
    raw = _raw("a", 8, ("a", "out", list(range(8)), list(range(8))), ("g", "in", [0] * 8, list(range(8))))
    found, fixed = form_groups(_net(), [raw], [])
    assert found == []
    assert "all together" in fixed["a"]


def test_a_reason_of_the_trace_is_kept() -> None:
    raw = _raw("a", 8, ("a", "out", list(range(8)), list(range(8))))
    raw.fixed = "its channels are the network's output"
    assert form_groups(_net(), [raw], []) == ([], {"a": "its channels are the network's output"})


def test_a_group_is_plain_data() -> None:
    assert Group("a", 2, 1, ()) == Group("a", 2, 1, ())
