from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compress.training.optimizer import make_optimizer, set_learning_rate
from compress.training.settings import Recipe


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def train(module: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        module(inputs).square().mean().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_are_those_of_the_plain_implementation(optimizer: Any) -> None:
    recipe = Recipe(optimizer=optimizer, learning_rate=0.01, weight_decay=0.1, decay_norm_and_bias=True)
    reference = network()
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "foreach": False}
    plain: torch.optim.Optimizer = (
        torch.optim.SGD(reference.parameters(), momentum=0.9, nesterov=True, **options)
        if optimizer == "sgd"
        else torch.optim.AdamW(reference.parameters(), betas=(0.9, 0.999), **options)
    )
    expected = train(reference, plain)
    ours = network()
    for found, wanted in zip(train(ours, make_optimizer(ours.parameters(), recipe)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_only_matrices_decay() -> None:
    module = network()
    groups = make_optimizer(module.parameters(), Recipe(weight_decay=0.1)).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert {name: decay[id(p)] for name, p in module.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.1,
        "2.bias": 0.0,
    }


def test_frozen_parameters_are_left_out() -> None:
    module = network()
    module[0].requires_grad_(False)
    optimizer = make_optimizer(module.parameters(), Recipe())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_parameter_may_get_its_first_gradient_late(optimizer: Any) -> None:
    early, late = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    made = make_optimizer([early, late], Recipe(optimizer=optimizer))
    for step in range(3):
        made.zero_grad()
        (early.sum() + (late.sum() if step == 2 else 0)).backward()  # type: ignore[no-untyped-call]
        made.step()
    assert not torch.equal(late, torch.ones(3, 3))
    assert not torch.equal(late, early)


def test_learning_rate_is_set_for_all_groups() -> None:
    optimizer = make_optimizer(network().parameters(), Recipe())
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
