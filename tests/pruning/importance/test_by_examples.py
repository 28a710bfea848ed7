from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import StageError, UsageError
from compress.pruning.groups import Group, Member
from compress.pruning.importance.by_examples import activation_scores, hessian_scores, taylor_scores
from compress.pruning.importance.score import LabelledBatch
from compress.pruning.masked import masked
from compress.pruning.prunable import prunable_groups


def _net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))


def _batches() -> list[LabelledBatch]:
    x, y = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1, 0])
    return [((x[:3],), y[:3]), ((x[3:],), y[3:])]


def test_taylor_is_the_gradient_of_a_gate_on_each_channel() -> None:
    net, batches = _net(), _batches()
    groups, _ = prunable_groups(net, batches[0][0])
    found = taylor_scores(net, groups, batches, functional.cross_entropy)
    expected = torch.zeros(4)
    for (x,), y in batches:
        gate = torch.ones(4, requires_grad=True)
        hidden = net[1](net[0](x)) * gate[:, None, None]  # type: ignore[index]
        loss = functional.cross_entropy(net[2:](hidden), y)  # type: ignore[index]
        expected += torch.autograd.grad(loss, gate)[0].abs() / 2
    assert torch.allclose(found["0"].float(), expected, rtol=1e-4)


def test_hessian_squares_the_gradient_of_each_weight_that_reads_a_channel() -> None:
    net, batches = _net(), _batches()
    groups, _ = prunable_groups(net, batches[0][0])
    found = hessian_scores(net, groups, batches, functional.cross_entropy)
    convolution, linear = net.get_parameter("2.weight"), net.get_parameter("5.weight")
    expected = {"0": np.zeros(4), "2": np.zeros(3)}
    for (x,), y in batches:
        gradients = torch.autograd.grad(functional.cross_entropy(net(x), y), [convolution, linear])
        of_convolution, of_linear = (
            (gradient * weight).detach().double().numpy() ** 2 / 2 / len(batches)
            for gradient, weight in zip(gradients, (convolution, linear), strict=True)
        )
        expected["0"] += of_convolution.sum((0, 2, 3))
        expected["2"] += of_linear.reshape(2, 3, 16).sum((0, 2))  # flattened: 16 columns each
    for name, values in expected.items():
        assert found[name].numpy() == pytest.approx(values, rel=1e-5)


def test_activation_is_what_readers_take_in() -> None:
    net, batches = _net(), _batches()
    groups, _ = prunable_groups(net, batches[0][0])
    found = activation_scores(net, groups, batches)
    x = torch.cat([inputs for (inputs,), _ in batches])
    with torch.no_grad():
        maps = {"0": net[:2](x), "2": net[:4](x)}  # type: ignore[index]
    for name, values in maps.items():
        sizes = np.abs(values.double().numpy()).mean((0, 2, 3))
        assert found[name].numpy() == pytest.approx(sizes / sizes.mean(), rel=1e-5)


def test_activation_of_tokens_is_over_examples_and_positions() -> None:
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(2, 5, 3)
    members = (Member("0", "out", (0, 1, 2, 3), (0, 0, 1, 1)), Member("2", "in", (0, 1, 2, 3), (0, 0, 1, 1)))
    found = activation_scores(net, [Group("0", 2, 2, members)], [((x,), torch.zeros(2))])
    sizes = np.abs(net[:2](x).detach().double().numpy()).mean((0, 1))
    assert found["0"].numpy() == pytest.approx(sizes.reshape(2, 2).mean(1) / sizes.mean(), rel=1e-5)


def test_activation_that_no_layer_takes_in_is_refused() -> None:
    group = Group("0", 4, 1, (Member("0", "out", (0, 1, 2, 3), (0, 1, 2, 3)),))
    with pytest.raises(UsageError, match="`importance: activation` says nothing of 0, whose channels no layer takes"):
        activation_scores(nn.Sequential(nn.Linear(3, 4)), [group], [((torch.randn(2, 3),), torch.zeros(2))])


def test_no_batches_are_an_error() -> None:
    net = _net()
    with pytest.raises(ValueError, match="at least one batch"):
        activation_scores(net, [], [])
    with pytest.raises(ValueError, match="at least one batch"):
        hessian_scores(net, [], [], functional.cross_entropy)


def test_modes_gradients_and_frozen_parameters_are_left_as_they_were() -> None:
    net = _net().train()
    frozen = net.get_parameter("0.weight").requires_grad_(False)
    x, y = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 0])
    groups, _ = prunable_groups(net, [x])
    taylor_scores(net, groups, [((x,), y)], functional.cross_entropy)
    activation_scores(net, groups, [((x,), y)])
    assert not any(part._forward_pre_hooks for part in net.modules())
    assert net.training
    assert not frozen.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


class Remembering(nn.Module):
    """Keeps what it computed on itself, as some networks keep their attention."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 3), nn.Linear(3, 2)
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.seen = functional.relu(self.first(x))
        self.kept = [self.seen]
        return self.head(self.second(self.seen).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("legacy", [False, True])
def test_what_a_forward_pass_leaves_on_a_network_does_not_keep_it_from_being_copied(legacy: bool) -> None:
    net, x, y = Remembering(), torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 0])
    if legacy:
        nn.utils.spectral_norm(net.head)
    groups, _ = prunable_groups(net, [x])
    scores = taylor_scores(net, groups, [((x,), y)], functional.cross_entropy)
    assert net.seen is None or net.seen.grad_fn is None
    again = taylor_scores(copy.deepcopy(net), groups, [((x,), y)], functional.cross_entropy)
    assert scores.keys() == again.keys() and scores


def test_what_is_not_a_number_is_a_failure() -> None:
    net = _net()
    groups, _ = prunable_groups(net, [torch.randn(2, 1, 8, 8)])
    batches = [((torch.full((1, 1, 8, 8), torch.nan),), torch.tensor([0]))]
    with pytest.raises(StageError, match="nan on training examples"):
        taylor_scores(net, groups, batches, functional.cross_entropy)
    with pytest.raises(StageError, match="takes in nan on training examples"):
        activation_scores(net, groups, batches)


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


def test_change_of_the_loss_is_predicted_on_a_trained_network() -> None:
    x, y = _digits()
    net = _trained(x, y)
    groups, _ = prunable_groups(net, [x[:2]])
    batches = [((x[i : i + 8],), y[i : i + 8]) for i in range(0, 256, 8)]

    @torch.no_grad()
    def loss(module: nn.Module) -> float:
        return functional.cross_entropy(module(x[:256]), y[:256]).item()

    before = loss(net)

    def change(group: Group, unit: int) -> float:
        return abs(loss(masked(net, groups, {group.name: [unit]})) - before)

    measured = np.array([change(group, unit) for group in groups for unit in range(group.units)])
    for method, least in ((taylor_scores, 0.8), (hessian_scores, 0.75)):
        scores = method(net, groups, batches, functional.cross_entropy)
        predicted = torch.cat([scores[group.name] for group in groups]).numpy()
        ranks = np.argsort(np.argsort(np.stack([measured, predicted]), axis=1), axis=1)
        assert np.corrcoef(ranks[0], ranks[1]).min() >= least  # Spearman's
