from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.dataset import ArraySplit, Data
from compress.models.zoo.table import build_zoo
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.training.checkpoint import CHECKPOINT_SECONDS
from compress.training.fit import fit
from compress.training.memory_format import from_work, to_work
from compress.training.method import Supervised, TrainingProgress
from compress.training.settings import Recipe

CPU = torch.device("cpu")


class Stop(Exception):
    pass


class Stopping(Supervised):
    def after_step(self, progress: TrainingProgress) -> None:
        if progress.step == 5:
            raise Stop


def images() -> Data:
    g = np.random.default_rng(0)

    def split(count: int) -> ArraySplit:
        return ArraySplit(g.normal(size=(count, 3, 12, 12)).astype(np.float32), g.integers(0, 3, count))

    return Data(split(64), split(16), split(16))


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2"])
def test_gradients_are_the_same_and_the_ordinary_format_comes_back(name: str) -> None:
    torch.manual_seed(0)
    plain = build_zoo(name, num_classes=10, in_channels=3, width=0.5).double()
    before = {key: tensor.clone() for key, tensor in plain.state_dict().items()}
    fast, x = copy.deepcopy(plain), torch.randn(4, 3, 16, 16, dtype=torch.float64)
    parameters = list(fast.parameters())
    assert to_work(fast, CPU) is fast
    assert any(not tensor.is_contiguous() for tensor in fast.parameters())
    for module in (plain, fast):
        module(x).square().mean().backward()
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-12)
    from_work(fast, CPU)
    assert all(one is other for one, other in zip(parameters, fast.parameters(), strict=True))
    assert all(tensor.is_contiguous() for tensor in fast.state_dict().values())
    weights = dict(fast.named_parameters())
    assert all(torch.equal(weights[key], before[key]) for key in weights)


def test_what_is_not_planar_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv2d(2, 2, 3))
    to_work(module, CPU)
    assert all(tensor.is_contiguous() for tensor in module.parameters())
    to_work(linear := nn.Sequential(nn.Linear(3, 3)), CPU)
    assert all(tensor.is_contiguous() for tensor in linear.parameters())


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("mobilenet_v2", Recipe(epochs=2, batch_size=16, optimizer="adamw", gradient_clip=0.5)),
        ("wrn_10_1", Recipe(epochs=2, batch_size=16, optimizer="sgd", gradient_clip=0.5)),
    ],
)
def test_networks_with_pointwise_convolutions_go_on_to_the_same_bits(
    name: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory format of a 1x1 weight is ambiguous: what is put back must still be summed in the same order."""
    data, task = images(), open_task(TaskSettings())

    def trained(method: Supervised, checkpoints: Path | None) -> nn.Module:
        torch.manual_seed(0)
        network = build_zoo(name, num_classes=3, in_channels=3, width=0.5)
        fit(network, data, task, method, recipe, context=Context(threads=1, checkpoints=checkpoints))
        return network

    whole = trained(Supervised(task), None)
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    torch.manual_seed(0)
    stopped = build_zoo(name, num_classes=3, in_channels=3, width=0.5)
    with pytest.raises(Stop):
        fit(stopped, data, task, Stopping(task), recipe, context=Context(threads=1, checkpoints=tmp_path))
    assert all(tensor.is_contiguous() for tensor in stopped.parameters())
    again = trained(Supervised(task), tmp_path)
    assert all(
        torch.equal(one, other)
        for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True)
    )
