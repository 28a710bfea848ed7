from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import StageError
from compress.pruning.groups import Group
from compress.pruning.importance.score import Sliced, magnitude_scores, taylor_scores
from compress.pruning.masked import masked
from compress.pruning.prune import prunable_groups


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


def test_taylor_is_the_gradient_of_a_gate_on_each_channel() -> None:
    net = _net()
    x, y = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1, 0])
    groups, _ = prunable_groups(net, [x])
    found = taylor_scores(net, groups, [((x[:3],), y[:3]), ((x[3:],), y[3:])], functional.cross_entropy)
    expected = torch.zeros(4)
    for part in (slice(0, 3), slice(3, 6)):
        gate = torch.ones(4, requires_grad=True)
        hidden = net[1](net[0](x[part])) * gate[:, None, None]  # type: ignore[index]
        loss = functional.cross_entropy(net[2:](hidden), y[part])  # type: ignore[index]
        expected += torch.autograd.grad(loss, gate)[0].abs() / 2
    assert torch.allclose(found["0"].float(), expected, rtol=1e-4)


def test_modes_gradients_and_frozen_parameters_are_left_as_they_were() -> None:
    net = _net().train()
    frozen = net.get_parameter("0.weight").requires_grad_(False)
    x, y = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 0])
    groups, _ = prunable_groups(net, [x])
    taylor_scores(net, groups, [((x,), y)], functional.cross_entropy)
    assert net.training
    assert not frozen.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_loss_that_is_not_a_number_is_a_failure() -> None:
    net = _net()
    groups, _ = prunable_groups(net, [torch.randn(2, 1, 8, 8)])
    with pytest.raises(StageError, match="nan on training examples"):
        taylor_scores(
            net, groups, [((torch.full((1, 1, 8, 8), torch.nan),), torch.tensor([0]))], functional.cross_entropy
        )


def test_grouped_convolutions_are_read_at_shared_positions() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Flatten(), nn.Linear(8, 2))
    groups, _ = prunable_groups(net, [torch.randn(2, 1, 1, 1)])
    sliced = Sliced(net, groups[0], readers=True)
    assert [tuple(rows.shape) for rows in sliced.rows(sliced.tensors)] == [(4, 8)]


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(y)


def _trained(x: Tensor, y: Tensor) -> nn.Module:
    from compress.models.zoo.resnet_cifar import resnet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = resnet(8, width=0.5, shortcut="A", num_classes=10, in_channels=1)
        optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
        for _ in range(6):
            for chosen in torch.split(torch.randperm(1400), 64):
                optimizer.zero_grad()
                torch.autograd.backward(functional.cross_entropy(net.train()(x[chosen]), y[chosen]))
                optimizer.step()
    return net.eval()


def test_taylor_predicts_the_change_of_the_loss_on_a_trained_network() -> None:
    x, y = _digits()
    net = _trained(x, y)
    groups, _ = prunable_groups(net, [x[:2]])
    batches = [((x[i : i + 8],), y[i : i + 8]) for i in range(0, 256, 8)]
    scores = taylor_scores(net, groups, batches, functional.cross_entropy)

    @torch.no_grad()
    def loss(module: nn.Module) -> float:
        return functional.cross_entropy(module(x[:256]), y[:256]).item()

    before = loss(net)

    def change(group: Group, unit: int) -> float:
        return abs(loss(masked(net, groups, {group.name: [unit]})) - before)

    measured = np.array([change(group, unit) for group in groups for unit in range(group.units)])
    predicted = torch.cat([scores[group.name] for group in groups]).numpy()
    ranks = np.argsort(np.argsort(np.stack([measured, predicted]), axis=1), axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    correlation = centred[0] @ centred[1] / np.linalg.norm(centred[0]) / np.linalg.norm(centred[1])
    assert correlation >= 0.8  # Spearman's
