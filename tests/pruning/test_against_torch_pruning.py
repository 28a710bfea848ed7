"""What goes together, against the dependency graph of torch-pruning: a library of others, by another way (DepGraph)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch_pruning
from torch import nn

from compress.models.zoo.table import build_zoo
from compress.pruning.prunable import prunable_groups
from compress.pruning.surgery import cut

ZOO = ("resnet8x4", "wrn_10_1", "vgg8")
TRIED = 8
"""Groups of a network, evenly spread, that each lose a channel."""


def made(name: str) -> nn.Module:
    """A network of the zoo whose norms are not the initial ones."""
    module = build_zoo(name, num_classes=5, in_channels=3, width=0.5).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            assert part.running_mean is not None
            nn.init.normal_(part.running_mean)
    return module


@pytest.mark.parametrize("name", [*ZOO, "resnet_b", "mobilenet", "encoder_decoder"])
def test_one_channel_goes_with_the_same_others(name: str, network: Callable[[str], nn.Module]) -> None:
    """A group loses a channel by both; what is left has the same parameters and gives the same answers."""
    module, example = made(name) if name in ZOO else network(name), torch.randn(2, 3, 32, 32)
    groups, _ = prunable_groups(module, [example])
    assert len(groups) > 3
    for number, group in enumerate(groups[:: max(1, len(groups) // TRIED)]):
        unit = number % group.units
        [maker] = [m for m in group.members if (m.path, m.axis) == (group.name, "out")]
        channels = [index for index, of in zip(maker.indices, maker.units, strict=True) if of == unit]
        ours, theirs = copy.deepcopy(module), copy.deepcopy(module)
        cut(ours, groups, {group.name: [unit]})
        graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=example)
        layer: Any = theirs.get_submodule(group.name)
        remove: Callable[..., Any] = torch_pruning.prune_conv_out_channels
        if isinstance(layer, nn.Linear):
            remove = torch_pruning.prune_linear_out_channels
        graph.get_pruning_group(layer, remove, idxs=channels).prune()
        assert _shapes(ours) == _shapes(theirs), group.name
        assert all(torch.equal(ours.state_dict()[key], value) for key, value in theirs.state_dict().items()), group.name
        with torch.no_grad():
            assert torch.equal(ours(example), theirs(example))


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
