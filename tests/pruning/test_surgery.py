from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.models.zoo.shortcut import PadShortcut
from compress.pruning.groups import Group, Member
from compress.pruning.layers import layout
from compress.pruning.prunable import prunable_groups
from compress.pruning.surgery import cut, layer_widths, removed_channels

Make = Callable[[str], nn.Module]
TRACEABLE = ("encoder_decoder", "instance_norm", "tied", "resnet_a", "resnet_b", "mobilenet")


def _zero(module: nn.Module, groups: list[Group], removed: dict[str, list[int]]) -> None:
    """Set every parameter of the removed channels to zero, whether it writes or reads them."""
    for (path, axis), channels in removed_channels(groups, removed).items():
        layer = module.get_submodule(path)
        found = layout(layer, axis)
        for slot in found.slots if found else ():
            tensor = getattr(layer, slot.name)
            if isinstance(tensor, nn.Parameter):
                index = torch.tensor(sorted({channel % tensor.shape[slot.dim] for channel in channels}))
                with torch.no_grad():
                    tensor.index_fill_(slot.dim, index, 0.0)


@pytest.mark.parametrize("name", TRACEABLE)
def test_channels_whose_weights_are_zero_prune_to_equal_outputs(name: str, network: Make, example: Tensor) -> None:
    module = network(name)
    groups, _ = prunable_groups(module, [example])
    removed = {group.name: list(range(0, group.units, 2)) for group in groups}
    _zero(module, groups, removed)
    pruned = copy.deepcopy(module)
    cut(pruned, groups, removed)
    with torch.no_grad():
        expected, found = module(example), pruned(example)
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max().item())
    assert sum(p.numel() for p in pruned.parameters()) < 0.6 * sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("ignored", ["layer2.*", "layer3.*"])
def test_what_a_shortcut_needs_lies_where_the_network_is(ignored: str, network: Make, example: Tensor) -> None:
    """Channels that are no run any more are picked by an index; `meta` stands for a GPU."""
    module = network("resnet_a")
    groups, _ = prunable_groups(module, [example], [ignored])
    cut(moved := module.to("meta"), groups, {group.name: [3, 5] for group in groups})
    indices = [part.index for part in moved.modules() if isinstance(part, PadShortcut) and part.index is not None]
    assert indices and all(index.is_meta for index in indices)


def test_heads_go_whole_and_attributes_follow(network: Make, example: Tensor) -> None:
    module = network("transformer")
    groups, _ = prunable_groups(module, [example])
    [group] = [group for group in groups if group.heads and group.heads.path == "attention.0"]
    assert (group.units, group.unit_size) == (8, 8)
    pruned = copy.deepcopy(module)
    cut(pruned, groups, {group.name: [1, 6]})
    attention = vars(pruned.get_submodule("attention.0"))
    assert (attention["num_attention_heads"], attention["all_head_size"]) == (6, 48)
    weight = module.get_parameter("attention.0.query.weight")
    kept = [channel for channel in range(64) if channel // 8 not in {1, 6}]
    assert torch.equal(pruned.get_parameter("attention.0.query.weight"), weight[kept])
    pruned.train()(example)


class _Shared(nn.Module):
    """Two layers that are one, as tied embeddings are."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(4, 8)
        self.second.weight = self.first.weight


def _out(name: str, units: int) -> Member:
    return Member(name, "out", tuple(range(units)), tuple(range(units)))


def test_shared_parameters_stay_shared() -> None:
    module = _Shared()
    cut(module, [Group("first", 8, 1, (_out("first", 8), _out("second", 8)))], {"first": [0, 5]})
    assert module.first.weight is module.second.weight
    assert module.first.weight.shape == (6, 4)


def test_shared_parameters_that_would_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"first.weight and second.weight are one tensor"):
        cut(_Shared(), [Group("first", 8, 1, (_out("first", 8),))], {"first": [0, 5]})


def test_a_bare_parameter_is_cut(network: Make, example: Tensor) -> None:
    module = network("transformer")
    groups, _ = prunable_groups(module, [example])
    [stream] = [group for group in groups if any(member.path == "token" for member in group.members)]
    cut(module, groups, {stream.name: list(range(16))})
    assert module.get_parameter("token").shape == (1, 1, 48)
    assert module(example).shape == (2, 5)


def test_widths_are_those_of_convolutions_and_linear_layers(network: Make, example: Tensor) -> None:
    module = network("encoder_decoder")
    groups, _ = prunable_groups(module, [example])
    assert layer_widths(module, groups) == {"encoder.0": 16, "middle.1": 32, "up": 16, "decoder.0": 16}
