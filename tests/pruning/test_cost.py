"""What is counted from sizes is what a network that was really cut counts."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import pytest
from torch import Tensor, nn

from compress.models.count import count_macs, count_parameters
from compress.pruning.cost import Costs
from compress.pruning.prunable import prunable_groups
from compress.pruning.surgery import cut

NAMES = ("encoder_decoder", "group_norm", "instance_norm", "tied", "transformer", "resnet_a", "resnet_b", "mobilenet")


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_cut_network(name: str, network: Callable[[str], nn.Module], example: Tensor) -> None:
    module = network(name)
    groups, _ = prunable_groups(module, [example])
    costs = Costs(module, groups, [example])
    assert costs.macs({}) == count_macs(module, (example,))
    assert costs.parameters({}) == count_parameters(module)
    for seed in range(3):
        draw = random.Random(seed)
        step = {group.name: 4 if group.unit_size == 1 and group.units % 4 == 0 else 1 for group in groups}
        removed = {
            group.name: draw.sample(
                range(group.units), step[group.name] * draw.randrange(group.units // step[group.name])
            )
            for group in groups
        }
        pruned = copy.deepcopy(module)
        cut(pruned, groups, removed)
        assert costs.macs(removed) == count_macs(pruned, (example,))
        assert costs.parameters(removed) == count_parameters(pruned)
        assert costs.channels(removed) == sum(
            group.channels - len(removed[group.name]) * group.unit_size for group in groups
        )


def test_the_network_is_left_as_it_was(network: Callable[[str], nn.Module], example: Tensor) -> None:
    module = network("tied").train()
    groups, _ = prunable_groups(module, [example])
    Costs(module, groups, [example])
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())
