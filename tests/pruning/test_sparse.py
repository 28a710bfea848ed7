from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import ArraySplit, Data
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.models.rest import state_digest
from compress.pruning.groups import Group
from compress.pruning.importance.score import Sliced
from compress.pruning.prunable import prunable_groups
from compress.pruning.recover import prune_and_recover
from compress.pruning.sparse import SparseLearning, learn_sparsely, pulls, squared_norms, strengths
from compress.pruning.stage import Prune, Sparse
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.training.checkpoint import CHECKPOINT_SECONDS
from compress.training.evaluate import evaluate
from compress.training.method import TrainingProgress
from compress.training.settings import Recipe
from compress.training.train import train

CONTEXT = Context(device="cpu", threads=1)
TASK = open_task(TaskSettings())
PLACE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)


def _network(width: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    ).eval()  # fmt: skip


def _groups(module: nn.Module) -> list[Group]:
    dtype = next(module.parameters()).dtype
    return prunable_groups(module, [torch.randn(2, 1, 8, 8, dtype=dtype)])[0]


def test_strengths_are_those_of_the_paper() -> None:
    sizes = np.random.default_rng(0).uniform(0, 3, 20)
    expected = 2.0 ** (4 * (sizes.max() - sizes) / (sizes.max() - sizes.min()))
    found = strengths(torch.from_numpy(sizes)).numpy()
    assert found == pytest.approx(expected, rel=1e-12)
    assert (found[sizes.argmax()], found[sizes.argmin()]) == (1, 16)


def test_units_of_one_size_are_pulled_alike() -> None:
    assert strengths(torch.full((3,), 2.0, dtype=torch.float64)).tolist() == [1, 1, 1]


def _slices(network: nn.Sequential) -> list[list[Tensor]]:
    """For both groups, for each unit all weights that go with it, written out."""
    found = []
    for conv, norm, reader in ((0, 1, 3), (3, 4, 8)):
        written = [network.get_parameter(f"{layer}.{kind}") for layer in (conv, norm) for kind in ("weight", "bias")]
        read = network.get_parameter(f"{reader}.weight")
        units = range(read.shape[1])
        found.append([torch.cat([t[k].reshape(-1) for t in written] + [read[:, k].reshape(-1)]) for k in units])
    return found


def test_the_pull_is_the_gradient_of_the_penalty() -> None:
    network, weight = _network().double(), 0.3
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    groups = _groups(network)
    penalty = torch.zeros((), dtype=torch.float64)
    for units in _slices(network):
        norms = torch.stack([unit.square().sum() for unit in units])
        sizes = norms.detach()
        strength = 2 ** (4 * (sizes.max() - sizes) / (sizes.max() - sizes.min()))
        penalty = penalty + weight * (strength * norms).sum()
    expected = torch.autograd.grad(penalty, list(network.parameters()), allow_unused=True)
    parts = [Sliced(network, group) for group in groups]
    factors = {id(p): factor for p, factor in pulls([(part, strengths(squared_norms(part))) for part in parts], weight)}
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        if gradient is None:  # the last layer's bias is in no group
            assert id(parameter) not in factors
        else:
            assert torch.allclose(parameter * factors[id(parameter)], gradient, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["tied", "transformer", "resnet_a", "mobilenet"])
def test_all_that_a_unit_is_made_of_is_pulled(name: str, network: Callable[[str], nn.Module], example: Tensor) -> None:
    module = network(name)
    parts = [Sliced(module, group) for group in prunable_groups(module, [example])[0]]
    sizes = [squared_norms(part) for part in parts]
    penalty = sum(float((strengths(size) * size).sum()) for size in sizes)
    factors = pulls([(part, strengths(size)) for part, size in zip(parts, sizes, strict=True)], 1.0)
    # the penalty is homogeneous of degree 2: half of weights times gradient
    assert sum(float((p.detach().double().square() * factor).sum()) / 2 for p, factor in factors) == pytest.approx(
        penalty
    )


def test_it_is_added_to_the_gradients_that_are_there() -> None:
    network = _network()
    method = SparseLearning(TASK, _groups(network), 0.1)
    before = copy.deepcopy(network)
    method.before_step(network, PLACE)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    first, second, bias = (network.get_parameter(name) for name in ("0.weight", "3.weight", "8.bias"))
    first.grad, second.grad = None, torch.zeros_like(second)
    method.after_backward(PLACE)
    assert first.grad is None
    assert bias.grad is not None
    assert torch.equal(bias.grad, torch.ones(10))
    assert second.grad is not None
    ratio = second.grad / second.detach()  # pulled by the group that writes it and by the one that reads it
    assert 2 * 0.1 * 2 <= ratio.min() < ratio.max() <= 2 * 0.1 * 32.001
    assert state_digest(network) == state_digest(before)


def test_strengths_are_settled_at_the_start_of_each_epoch() -> None:
    network = _network()
    method = SparseLearning(TASK, _groups(network), 0.1)
    found = []
    for epoch, step in ((0, 0), (0, 1), (1, 2)):
        method.before_step(network, replace(PLACE, epoch=epoch, step=step))
        found.append(method.strengths["0"])
        with torch.no_grad():
            network.get_parameter("0.weight")[step] *= 3
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


class _Break(Exception):
    """Stands for a kill."""


class _Breaking:
    """Breaks off after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        def advance(steps: int = 1, note: str = "") -> None:
            self.steps -= steps
            if self.steps < 0:
                raise _Break

        yield advance

    def say(self, message: str) -> None:
        pass


def _small() -> Data:
    generator = np.random.default_rng(0)
    images, targets = generator.normal(size=(48, 1, 8, 8)).astype(np.float32), generator.integers(0, 10, 48)
    split = ArraySplit(images, targets)
    return Data(split, split, split)


def test_it_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    settings = Sparse(epochs=2, batch_size=16, weight=0.05, optimizer="sgd")
    network = _network()
    groups, data = _groups(network), _small()
    whole, broken, again = (copy.deepcopy(network) for _ in range(3))
    learn_sparsely(whole, data, TASK, groups, settings, CONTEXT)
    kept = replace(CONTEXT, checkpoints=tmp_path)
    with pytest.raises(_Break):  # in the middle of the second epoch, whose strengths are of weights that are gone
        learn_sparsely(broken, data, TASK, groups, settings, replace(kept, progress=_Breaking(4)))
    learn_sparsely(again, data, TASK, groups, settings, kept)
    assert state_digest(again) == state_digest(whole) != state_digest(broken)


@pytest.fixture(scope="module")
def digits() -> Data:
    return open_data(read_data_settings("digits", Path.cwd()))


@pytest.fixture(scope="module")
def trained(digits: Data) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = _network(16)
    train(module, digits, TASK, Recipe(epochs=6), CONTEXT)
    return module


def test_small_units_get_smaller_and_a_cut_loses_less(trained: nn.Module, digits: Data) -> None:
    recipe = {"epochs": 3, "optimizer": "sgd", "keep": "last"}
    plain, sparse = copy.deepcopy(trained), copy.deepcopy(trained)
    train(plain, digits, TASK, Recipe.model_validate(recipe), CONTEXT)
    cut = Prune.model_validate(
        {"keep": {"macs": 0.5}, "importance": "magnitude", "examples": 64, "round_to": 4, "reconstruct": False}
    )
    learn_sparsely(sparse, digits, TASK, _groups(sparse), Sparse.model_validate({**recipe, "weight": 0.005}), CONTEXT)
    spreads, losses = [], []
    for module in (plain, sparse):
        norms = [squared_norms(Sliced(module, group)).sqrt() for group in _groups(module)]
        spreads.append([float(norm.min() / norm.max()) for norm in norms])
        before = evaluate(module, digits, TASK, digits.validation, context=CONTEXT)["accuracy"]
        prune_and_recover(module, digits, TASK, cut, None, CONTEXT)
        losses.append(before - evaluate(module, digits, TASK, digits.validation, context=CONTEXT)["accuracy"])
    assert all(after < before / 2 for before, after in zip(*spreads, strict=True))
    assert losses[1] < losses[0] - 0.1
