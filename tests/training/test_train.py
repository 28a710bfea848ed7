from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.dataset import ArraySplit, Data
from compress.errors import UsageError
from compress.stage import Context, Silent
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task
from compress.training.fit import UNMIXED
from compress.training.settings import Recipe
from compress.training.train import train

MakeNetwork = Callable[..., nn.Sequential]


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_classes_are_learned(data: Data, task: Task, make_network: MakeNetwork, label_smoothing: float) -> None:
    recipe = Recipe(epochs=12, learning_rate=0.01)
    log = train(make_network(), data, task, recipe, Context(threads=1), label_smoothing=label_smoothing)
    assert log.validation["accuracy"] >= 0.9


def test_mixtures_which_have_no_labels_are_left_out_and_that_is_said(
    data: Data, task: Task, make_network: MakeNetwork
) -> None:
    class Told(Silent):
        said: list[str] = []  # noqa: RUF012 - one instance

        def say(self, message: str) -> None:
            self.said.append(message)

    flipping, mixing = {"flip": {"probability": 0.5}}, {"mixup": {"probability": 1.0, "alpha": 1.0}}
    told, recipe = Told(), Recipe(epochs=1)
    plain, mixed = make_network(), make_network()
    train(plain, replace(data, augmentation=(flipping,)), task, recipe, Context(threads=1, progress=told))
    assert told.said == []
    train(mixed, replace(data, augmentation=(flipping, mixing)), task, recipe, Context(threads=1, progress=told))
    assert told.said == [UNMIXED]
    for one, other in zip(plain.state_dict().values(), mixed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_values_are_learned_and_have_no_labels_to_smooth() -> None:
    generator = np.random.default_rng(0)

    def split(examples: int) -> ArraySplit:
        inputs = generator.normal(size=(examples, 4)).astype(np.float32)
        return ArraySplit(inputs, inputs[:, :2] * 2 - 1)

    data, task = Data(split(200), split(50), split(50)), open_task(TaskSettings(name="regression"))
    recipe = Recipe(epochs=30, learning_rate=0.05, batch_size=20)
    log = train(nn.Linear(4, 2), data, task, recipe, Context(threads=1))
    assert log.validation["mse"] < 1e-3
    with pytest.raises(UsageError, match="label_smoothing"):
        train(nn.Linear(4, 2), data, task, recipe, label_smoothing=0.1)
