from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.pruning.groups import Group, Member
from compress.pruning.masked import KeptNorm, Narrowed, masked
from compress.pruning.prunable import prunable_groups

KEPT = [0, 2, 3, 5]


def test_layer_norm_over_the_channels_that_stay() -> None:
    norm, x = nn.LayerNorm(6), torch.randn(2, 3, 6)
    found = KeptNorm(norm, KEPT)(x)
    mean = x[..., KEPT].mean(-1, keepdim=True)
    expected = (x[..., KEPT] - mean) / (x[..., KEPT].var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    assert torch.allclose(found[..., KEPT], expected, atol=1e-6)
    assert (found[..., [1, 4]] == 0).all()


def test_layer_norm_with_channels_first() -> None:
    class First(nn.LayerNorm):
        data_format = "channels_first"

    x = torch.randn(2, 6, 4, 4)
    found = KeptNorm(First(6), KEPT)(x)
    expected = KeptNorm(nn.LayerNorm(6), KEPT)(x.movedim(1, -1)).movedim(-1, 1)
    assert torch.equal(found, expected)


def test_group_norm_over_the_channels_that_stay() -> None:
    norm, x = nn.GroupNorm(2, 6), torch.randn(2, 6, 4, 4)
    kept = [0, 1, 3, 4]
    found = KeptNorm(norm, kept)(x)
    assert torch.allclose(found[:, [0, 1]], functional.group_norm(x[:, [0, 1]], 1), atol=1e-5)
    assert torch.allclose(found[:, [3, 4]], functional.group_norm(x[:, [3, 4]], 1), atol=1e-5)
    assert (found[:, [2, 5]] == 0).all()


def test_a_silent_channel_has_no_influence_whatever_its_weights() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2))
    members = (Member("0", "out", (0, 1, 2, 3), (0, 1, 2, 3)), Member("2", "in", (0, 1, 2, 3), (0, 1, 2, 3)))
    double = masked(module, [Group("0", 4, 1, members)], {"0": [1]})
    x = torch.randn(5, 3)
    hidden = torch.sigmoid(functional.linear(x, module[0].weight, module[0].bias))[:, [0, 2, 3]]  # type: ignore[arg-type]
    expected = functional.linear(hidden, module[2].weight[:, [0, 2, 3]], module[2].bias)  # type: ignore[index,arg-type]
    assert torch.allclose(double(x), expected, atol=1e-6)


def test_a_root_mean_square_over_the_channels_that_stay() -> None:
    norm, x = nn.RMSNorm(6, eps=1e-6), torch.randn(2, 3, 6)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    found = Narrowed(norm, [1, 4])(x)
    size = (x[..., KEPT].square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(found[..., KEPT], x[..., KEPT] / size * norm.weight[KEPT], atol=1e-6)
    assert (found[..., [1, 4]] == 0).all()


class OwnNorm(nn.LayerNorm):
    """Over the channels of images, which come second, as torchvision's `LayerNorm2d`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [(6, 6), (4, 6), (6, 4), (4, 4)])
def test_a_norm_of_somebodys_own_over_the_second_axis(size: tuple[int, int]) -> None:
    """Also where images are as wide as there are channels."""
    norm, x = OwnNorm(6), torch.randn(2, 6, *size)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(0.5, 2)
    found = Narrowed(norm, [1, 4])(x)
    expected = functional.layer_norm(x[:, KEPT].movedim(1, -1), (4,), norm.weight[KEPT], norm.bias[KEPT])
    assert torch.allclose(found[:, KEPT], expected.movedim(-1, 1), atol=1e-5)
    assert (found[:, [1, 4]] == 0).all()


@pytest.mark.parametrize("width", [8, 12])
def test_channels_around_such_a_norm_can_go(width: int) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), OwnNorm(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.LazyLinear(2)
    )
    x = torch.randn(2, 3, width, width)
    module(x)
    groups, fixed = prunable_groups(module, [x])
    assert "0" in [group.name for group in groups], fixed


def test_a_double_leaves_the_network_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    groups = [Group("0", 4, 1, (Member("0", "out", (0, 1, 2, 3), (0, 1, 2, 3)),))]
    double = masked(module, groups, {"0": [2]})
    assert (double.get_parameter("0.weight")[2] == 0).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
