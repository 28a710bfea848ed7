from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.pruning.groups import Group, Member
from compress.pruning.importance.score import (
    Sliced,
    batch_norm_scores,
    fpgm_scores,
    lamp_scores,
    magnitude_scores,
    random_scores,
)
from compress.pruning.prunable import prunable_groups


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))


def test_magnitude_gathers_what_goes_with_a_channel() -> None:
    net, x = _net(), torch.randn(2, 1, 8, 8)
    groups, _ = prunable_groups(net, [x])
    found = magnitude_scores(net, groups, norm=2)
    first, second, last = (net.get_submodule(name) for name in "025")
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    assert isinstance(last, nn.Linear)
    assert first.bias is not None
    assert second.bias is not None
    for channel in range(4):
        gone = [first.weight[channel].flatten(), first.bias[channel : channel + 1], second.weight[:, channel].flatten()]
        assert found["0"][channel].item() == pytest.approx(torch.cat(gone).norm().item(), rel=1e-6)
    for channel in range(3):  # flattened: 16 columns of the linear layer each
        columns = last.weight[:, 16 * channel : 16 * (channel + 1)].flatten()
        gone = [second.weight[channel].flatten(), second.bias[channel : channel + 1], columns]
        assert found["2"][channel].item() == pytest.approx(torch.cat(gone).norm().item(), rel=1e-6)


def test_grouped_convolutions_are_read_at_shared_positions() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Flatten(), nn.Linear(8, 2))
    groups, _ = prunable_groups(net, [torch.randn(2, 1, 1, 1)])
    sliced = Sliced(net, groups[0], readers=True)
    assert [tuple(rows.shape) for rows in sliced.rows(sliced.tensors)] == [(4, 8)]


def test_lamp_is_of_all_that_goes_with_a_channel() -> None:
    net = _net()
    groups, _ = prunable_groups(net, [torch.randn(2, 1, 8, 8)])
    squares = magnitude_scores(net, groups, norm=2)["0"].numpy() ** 2
    expected = [square / squares[squares >= square].sum() for square in squares]
    assert lamp_scores(net, groups)["0"].numpy() == pytest.approx(np.array(expected), rel=1e-9)


def test_fpgm_is_of_the_layers_that_write_a_group_without_biases_and_depthwise_ones() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 3, 1))
    groups, _ = prunable_groups(net, [torch.randn(2, 1, 8, 8)])
    filters = net.get_parameter("0.weight").detach().double().numpy().reshape(4, 9)
    distances = np.sqrt(((filters[:, None] - filters[None]) ** 2).sum(-1)).sum(1)
    assert fpgm_scores(net, groups)["0"].numpy() == pytest.approx(distances / distances.mean(), rel=1e-6)


def test_fpgm_takes_every_layer_of_a_sum_and_the_filters_of_a_transposed_convolution() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Conv2d(2, 5, 3, padding=1), nn.ConvTranspose2d(2, 5, 3, padding=1)
            self.head = nn.Conv2d(5, 2, 1)

        def forward(self, x: Tensor) -> Any:
            return self.head(torch.relu(self.one(x) + self.other(x)))

    net = Sum()
    groups, _ = prunable_groups(net, [torch.randn(2, 2, 8, 8)])
    expected = np.zeros(5)
    for weight in (net.one.weight, net.other.weight.transpose(0, 1)):
        filters = weight.detach().double().numpy().reshape(5, 18)
        distances = np.sqrt(((filters[:, None] - filters[None]) ** 2).sum(-1)).sum(1)
        expected += distances / distances.mean() / 2
    assert fpgm_scores(net, groups)["one"].numpy() == pytest.approx(expected, rel=1e-6)


def test_fpgm_of_what_no_filter_makes_is_refused() -> None:
    group = Group("0", 4, 1, (Member("0", "out", (0, 1, 2, 3), (0, 1, 2, 3)),))
    with pytest.raises(UsageError, match="fpgm` says nothing of 0, whose channels are not made by filters"):
        fpgm_scores(nn.Sequential(nn.LayerNorm(4)), [group])


def test_batch_norm_is_of_all_norms_of_a_group() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3))
    one, other = (nn.init.normal_(net.get_parameter(f"{name}.weight")).detach().double().numpy() for name in "13")
    groups, _ = prunable_groups(net, [torch.randn(2, 1, 8, 8)])
    assert batch_norm_scores(net, groups)["0"].numpy() == pytest.approx((abs(one) + abs(other)) / 2, rel=1e-12)


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.BatchNorm2d(4, affine=False), nn.ReLU()])
def test_groups_without_batch_norm_are_named(norm: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), norm, nn.Conv2d(4, 2, 1))
    groups, _ = prunable_groups(net, [torch.randn(2, 1, 8, 8)])
    with pytest.raises(UsageError, match=r"nothing of 2, whose channels go through no batch norm\. Add .* `ignore`"):
        batch_norm_scores(net, groups)


def test_random_has_a_number_for_each_unit() -> None:
    groups = [Group("a", 5, 1, ()), Group("b", 3, 2, ())]
    found, again = random_scores(groups, 1), random_scores(groups, 1)
    assert {name: len(scores) for name, scores in found.items()} == {"a": 5, "b": 3}
    assert all(torch.equal(found[name], again[name]) for name in found)
