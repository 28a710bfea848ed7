from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.models.zoo.shortcut import PadShortcut
from compress.pruning.groups import Group, Member
from compress.pruning.masked import masked
from compress.pruning.ordering import channel_order, unit_orders
from compress.pruning.prunable import prunable_groups
from compress.pruning.surgery import cut

Make = Callable[[str], nn.Module]


def _shortcuts(module: nn.Module) -> list[PadShortcut]:
    return [part for part in module.modules() if isinstance(part, PadShortcut)]


@pytest.mark.parametrize("seed", range(4))
def test_shortcuts_stay_slices_and_pads_and_compute_what_masking_does(
    seed: int, network: Make, example: Tensor
) -> None:
    module = network("resnet_a")
    groups, _ = prunable_groups(module, [example])
    generator = torch.Generator().manual_seed(seed)
    removed = {g.name: torch.randperm(g.units, generator=generator)[: g.units // 2].tolist() for g in groups}
    pruned = copy.deepcopy(module)
    cut(pruned, groups, removed)
    assert all(shortcut.run for shortcut in _shortcuts(pruned))
    assert not any(shortcut.index is not None for shortcut in _shortcuts(pruned))
    with torch.no_grad():
        assert torch.allclose(pruned(example), masked(module, groups, removed)(example), atol=1e-5)


def test_channels_stay_in_order_where_there_is_no_reason_to_move_them(network: Make, example: Tensor) -> None:
    module = network("resnet_a")
    groups, _ = prunable_groups(module, [example])
    assert unit_orders(module, groups, {"layer1.0.conv1": [0, 3]}) == ({}, {})
    module = network("resnet_b")
    groups, _ = prunable_groups(module, [example])
    assert unit_orders(module, groups, {groups[0].name: [3]}) == ({}, {})


def test_one_side_alone_can_be_pruned(network: Make, example: Tensor) -> None:
    module = network("resnet_a")
    groups, fixed = prunable_groups(module, [example], ignore=["layer2.*"])
    assert "layer2.0.conv2" in fixed
    removed = {groups[0].name: [2, 7]}
    pruned = copy.deepcopy(module)
    cut(pruned, groups, removed)
    assert _shortcuts(pruned)[0].in_channels == 14
    with torch.no_grad():
        assert torch.allclose(pruned(example), masked(module, groups, removed)(example), atol=1e-5)


def test_groups_keep_their_places_in_a_shared_axis() -> None:
    left = Group("a", 3, 1, (Member("x", "in", (0, 1, 2), (0, 1, 2)),))
    right = Group("b", 3, 1, (Member("x", "in", (3, 4, 5), (0, 1, 2)),))
    members = [(left, left.members[0]), (right, right.members[0])]
    assert channel_order(6, members, {"a": [1]}, {}) == [0, 2, 3, 4, 5]
    assert channel_order(6, members, {"a": [1]}, {"a": [2, 0], "b": [2, 0, 1]}) == [2, 0, 5, 3, 4]
