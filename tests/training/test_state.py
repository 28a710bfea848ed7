from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compress.training.state import copy_of, restore, tensors_of


class Observer(nn.Module):
    """Buffers as fake quantization has them: empty until the first batch, one value per channel after it."""

    minimum: Tensor
    zero_point: Tensor
    hidden: Tensor
    later: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("minimum", torch.tensor([]))
        self.register_buffer("zero_point", torch.zeros(1, dtype=torch.int32))
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.register_buffer("later", None)
        self.scale = nn.Parameter(torch.ones(1))

    def observe(self) -> None:
        self.minimum.resize_(4).copy_(torch.arange(4.0))
        self.zero_point = torch.full((4,), 7, dtype=torch.int64)
        self.hidden += 1
        self.later = torch.full((2, 2), 5.0)


def test_a_copy_brings_everything_back() -> None:
    module = nn.Sequential(nn.Linear(2, 2), Observer())
    before = copy_of(module)
    with torch.no_grad():
        next(module.parameters()).add_(1)
    restore(module, before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(module).items())


def test_buffers_may_change_their_shape_and_type() -> None:
    source, target = nn.Sequential(Observer()), nn.Sequential(Observer())
    observer = source[0]
    assert isinstance(observer, Observer)
    observer.observe()
    kept = target[0].minimum
    restore(target, copy_of(source))
    assert {n: t.tolist() for n, t in tensors_of(target).items()} == {
        n: t.tolist() for n, t in tensors_of(source).items()
    }
    assert target[0].minimum is kept
    assert target[0].zero_point.dtype == torch.int64


def test_shared_parameters_stay_shared() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    assert set(tensors_of(module)) == {"0.weight", "0.bias", "1.bias"}
    restore(module, copy_of(module))
    assert module[1].weight is module[0].weight


def test_another_module_is_refused() -> None:
    tensors = copy_of(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="shape"):
        restore(nn.Linear(3, 2), tensors)
    with pytest.raises(ValueError, match="bias"):
        restore(nn.Linear(2, 2), {"weight": tensors["weight"]})
    with pytest.raises(ValueError, match="no buffer extra"):
        restore(nn.Linear(2, 2), {**tensors, "extra": torch.ones(1)})
