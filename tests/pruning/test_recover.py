from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import ArraySplit, Data
from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.distillation.settings import DistillationRecipe
from compress.errors import UsageError
from compress.models import rest
from compress.pruning.prune import PruneLog
from compress.pruning.recover import describe, prune_and_recover, training_batches
from compress.pruning.settings import Pruning
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task
from compress.training.evaluate import evaluate
from compress.training.settings import Recipe
from compress.training.train import train

CONTEXT = Context(device="cpu", threads=1)
SETTINGS = Pruning.model_validate({"keep": {"macs": 0.5}, "examples": 64})


@pytest.fixture(scope="module")
def data() -> Data:
    return open_data(read_data_settings("digits", Path.cwd()))


@pytest.fixture(scope="module")
def task() -> Task:
    return open_task(TaskSettings())


@pytest.fixture(scope="module")
def trained(data: Data, task: Task) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolutions: list[nn.Module] = []
        for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
            convolutions += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU()]
        module = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    train(module, data, task, Recipe(epochs=10), CONTEXT)
    return module


def _accuracy(module: nn.Module, data: Data, task: Task) -> float:
    return float(evaluate(module, data, task, data.validation, context=CONTEXT)["accuracy"])


def test_recovery_wins_back_what_pruning_lost(trained: nn.Module, data: Data, task: Task) -> None:
    pruned = copy.deepcopy(trained)
    log, none = prune_and_recover(pruned, data, task, SETTINGS, None, CONTEXT)
    recovered = copy.deepcopy(trained)
    again, fit_log = prune_and_recover(recovered, data, task, SETTINGS, DistillationRecipe(epochs=6), CONTEXT)
    assert none is None
    assert again == log
    assert log.reached == pytest.approx(0.5, rel=0.05)
    assert fit_log is not None
    assert not recovered.training
    before, cut, after = (_accuracy(module, data, task) for module in (trained, pruned, recovered))
    assert cut < after
    assert after >= before - 0.03


def test_the_same_seed_gives_the_same_bytes(trained: nn.Module, data: Data, task: Task) -> None:
    digests = []
    for seed in (0, 0, 1):
        module = copy.deepcopy(trained)
        prune_and_recover(module, data, task, SETTINGS, DistillationRecipe(epochs=1), replace(CONTEXT, seed=seed))
        digests.append(rest.state_digest(module))
    assert digests[0] == digests[1] != digests[2]


def test_statistics_are_those_of_training_examples(trained: nn.Module, data: Data, task: Task) -> None:
    module = copy.deepcopy(trained)
    prune_and_recover(module, data, task, SETTINGS, None, CONTEXT)
    [(inputs, _)] = training_batches(data, 64, 64, CONTEXT, torch.device("cpu"))
    norm = module[1]  # type: ignore[index]
    assert isinstance(norm.running_mean, Tensor)
    assert torch.allclose(norm.running_mean, module[0](*inputs).mean((0, 2, 3)), atol=1e-5)  # type: ignore[index]


def test_the_global_random_state_is_left_alone(trained: nn.Module, data: Data, task: Task) -> None:
    state = torch.random.get_rng_state()
    prune_and_recover(copy.deepcopy(trained), data, task, SETTINGS, None, CONTEXT)
    assert torch.equal(torch.random.get_rng_state(), state)


@dataclass(frozen=True)
class _Counting:
    """A split that notes which examples were read."""

    split: ArraySplit
    seen: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.split)

    def raw(self, indices: Any) -> list[Any]:
        self.seen.extend(int(index) for index in indices)
        return self.split.raw(indices)

    def targets(self, indices: Any) -> Any:
        return self.split.targets(indices)


def _counting(examples: int) -> tuple[Data, dict[str, _Counting]]:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(examples, 1, 8, 8)).astype(np.float32)
    splits = {
        name: _Counting(ArraySplit(images, generator.integers(0, 10, examples)))
        for name in ("train", "validation", "test")
    }
    return Data(splits["train"], splits["validation"], splits["test"]), splits


def test_rehearsal_reads_two_batches_and_no_test_data(trained: nn.Module, task: Task) -> None:
    data, splits = _counting(100)
    rehearsal = replace(CONTEXT, rehearsal=True)
    prune_and_recover(copy.deepcopy(trained), data, task, SETTINGS, None, rehearsal)
    assert len(set(splits["train"].seen) - {0}) <= 8
    assert splits["validation"].seen == splits["test"].seen == []


def test_batches_are_of_one_size_seeded_and_no_example_comes_twice() -> None:
    data, splits = _counting(50)
    batches = training_batches(data, 40, 16, CONTEXT, torch.device("cpu"))
    assert [len(targets) for _, targets in batches] == [16, 16]
    read = splits["train"].seen
    assert len(training_batches(data, 1000, 64, CONTEXT, torch.device("cpu"))[0][1]) == 50
    assert len(set(read)) >= 32
    other = training_batches(data, 40, 16, replace(CONTEXT, seed=1), torch.device("cpu"))
    assert not torch.equal(other[0][0][0], batches[0][0][0])


def test_no_examples_are_refused(trained: nn.Module, task: Task) -> None:
    data, _ = _counting(5)
    empty = replace(data, train=ArraySplit(np.zeros((0, 1, 8, 8), np.float32), np.zeros(0, np.int64)))
    with pytest.raises(UsageError, match="training split is empty"):
        prune_and_recover(copy.deepcopy(trained), empty, task, SETTINGS, None, CONTEXT)


def test_one_line_says_what_was_done() -> None:
    log = PruneLog("macs", 0.5, 0.512, {"macs": 2000, "parameters": 100}, {"macs": 1024, "parameters": 60}, {}, {})
    assert describe(log) == "pruned to 51.2% of the macs (asked 50.0%): macs 2,000 -> 1,024, parameters 100 -> 60"
