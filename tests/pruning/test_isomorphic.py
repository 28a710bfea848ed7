from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.pruning.isomorphic import isomorphism_classes
from compress.pruning.prunable import prunable_groups

Make = Callable[[str], nn.Module]


def _families(module: nn.Module, example: Tensor) -> list[set[str]]:
    groups, _ = prunable_groups(module, [example])
    classes = isomorphism_classes(module, groups)
    assert list(classes) == [group.name for group in groups]
    return [{name for name in classes if classes[name] == kind} for kind in dict.fromkeys(classes.values())]


def test_the_insides_of_residual_blocks_are_alike_whatever_their_width(network: Make, example: Tensor) -> None:
    families = _families(network("resnet_b"), example)
    inside = {f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (0, 1)}
    assert inside in families
    assert all(not family & inside for family in families if family != inside)


def test_heads_feed_forward_and_residual_stream_are_three(network: Make, example: Tensor) -> None:
    assert _families(network("transformer"), example) == [
        {"patches"},
        {"attention.0.query", "attention.1.query"},
        {"up.0", "up.1"},
    ]


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ((nn.Linear(4, 6), nn.ReLU()), (nn.Linear(6, 9), nn.ReLU()), True),
        ((nn.Linear(4, 6), nn.LayerNorm(6)), (nn.Linear(6, 9), nn.LayerNorm(9)), True),
        ((nn.Linear(4, 6), nn.LayerNorm(6)), (nn.Linear(6, 9), nn.ReLU()), False),
        ((nn.Linear(4, 6), nn.LayerNorm(6)), (nn.Linear(6, 9), nn.PReLU(9)), False),
    ],
)
def test_types_of_layers_tell_classes_apart(
    first: tuple[nn.Module, ...], second: tuple[nn.Module, ...], alike: bool
) -> None:
    families = _families(nn.Sequential(*first, *second, nn.Linear(9, 2)), torch.randn(3, 4))
    assert families == ([{"0", "2"}] if alike else [{"0"}, {"2"}])


def test_the_size_of_a_unit_tells_classes_apart() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1, groups=4), nn.Conv2d(8, 3, 1))
    groups, _ = prunable_groups(net, [torch.randn(2, 3, 4, 4)])
    assert {group.name: group.unit_size for group in groups} == {"0": 1, "1": 4, "2": 4}
    assert len(set(isomorphism_classes(net, groups).values())) == 2
