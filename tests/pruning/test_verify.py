from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.pruning.groups import Group, Member
from compress.pruning.prunable import prunable_groups
from compress.pruning.verify import difference, disagreement, perturbed

Make = Callable[[str], nn.Module]


def test_what_code_fixes_is_found_and_the_rest_trusted(network: Make, example: Tensor) -> None:
    groups, fixed = prunable_groups(network("untraceable"), [example])
    assert [group.name for group in groups] == ["plain", "halved"]
    assert fixed.keys() == {"shuffled", "averaged", "head"}
    assert "the network fails" in fixed["shuffled"]
    assert "averaged" in fixed["averaged"]


@pytest.mark.parametrize(
    "name", ["encoder_decoder", "group_norm", "instance_norm", "tied", "transformer", "resnet_a", "resnet_b"]
)
def test_what_can_be_pruned_is_trusted(name: str, network: Make, example: Tensor) -> None:
    _, fixed = prunable_groups(network(name), [example])
    assert set(fixed.values()) == {"its channels are the network's output"}


def test_a_mapping_that_is_off_by_one_is_found() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    good = (Member("0", "out", (0, 1, 2, 3), (0, 1, 2, 3)), Member("2", "in", (0, 1, 2, 3), (0, 1, 2, 3)))
    bad = (good[0], Member("2", "in", (1, 2, 3, 0), (0, 1, 2, 3)))
    x = [torch.randn(2, 3)]
    assert difference(module, [Group("0", 4, 1, good)], {"0": [1]}, x, seed=0) is None
    assert difference(module, [Group("0", 4, 1, bad)], {"0": [1]}, x, seed=0) is not None


def test_differences_are_named() -> None:
    assert disagreement([torch.ones(2, 3)], [torch.ones(2, 3) + 1e-6]) is None
    assert "silencing" in str(disagreement([torch.ones(2, 3)], [torch.full((2, 3), 1.1)]))
    assert "silencing" in str(disagreement([torch.full((2, 3), torch.nan)], [torch.ones(2, 3)]))
    assert "(2, 2) from (2, 3)" in str(disagreement([torch.ones(2, 2)], [torch.ones(2, 3)]))


def test_perturbing_tells_silent_channels_apart_and_leaves_the_original() -> None:
    module = nn.Linear(3, 4)
    nn.init.zeros_(module.weight)
    copied = perturbed(module, seed=0)
    assert isinstance(copied.weight, Tensor)
    assert len(set(copied.weight.flatten().tolist())) == 12
    assert (module.weight == 0).all()
    assert torch.equal(copied.weight, perturbed(module, seed=0).weight)  # type: ignore[arg-type]
