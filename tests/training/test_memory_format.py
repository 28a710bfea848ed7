from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from compress.models.zoo.table import build_zoo
from compress.training.memory_format import from_training, to_train

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2"])
def test_gradients_are_the_same_and_the_ordinary_format_comes_back(name: str) -> None:
    torch.manual_seed(0)
    plain = build_zoo(name, num_classes=10, in_channels=3, width=0.5).double()
    before = {key: tensor.clone() for key, tensor in plain.state_dict().items()}
    fast, x = copy.deepcopy(plain), torch.randn(4, 3, 16, 16, dtype=torch.float64)
    parameters = list(fast.parameters())
    assert to_train(fast, CPU) is fast
    assert any(not tensor.is_contiguous() for tensor in fast.parameters())
    for module in (plain, fast):
        module(x).square().mean().backward()
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-12)
    from_training(fast, CPU)
    assert all(one is other for one, other in zip(parameters, fast.parameters(), strict=True))
    assert all(tensor.is_contiguous() for tensor in fast.state_dict().values())
    weights = dict(fast.named_parameters())
    assert all(torch.equal(weights[key], before[key]) for key in weights)


def test_what_is_not_planar_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv2d(2, 2, 3))
    to_train(module, CPU)
    assert all(tensor.is_contiguous() for tensor in module.parameters())
    to_train(linear := nn.Sequential(nn.Linear(3, 3)), CPU)
    assert all(tensor.is_contiguous() for tensor in linear.parameters())
