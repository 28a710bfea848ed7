"""One driver for every built-in task."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.data.dataset import ArraySplit, Data
from compress.tasks.open import TASKS, open_task
from compress.tasks.settings import BUILTIN, read_task_settings


def test_every_task_has_settings_and_an_opener() -> None:
    assert TASKS.keys() == BUILTIN.keys()


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_its_contract(name: str) -> None:
    task = open_task(read_task_settings(name))
    outputs = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    targets = np.arange(40) % 4 if task.distillation == "classes" else outputs + np.float32(0.1)
    metrics = task.metrics(outputs, targets)
    low, high = task.interval(outputs, targets)
    assert task.name == name
    assert next(iter(metrics)) == task.metric
    assert low <= metrics[task.metric] <= high
    assert task.agreement(outputs, outputs) == 1.0
    learned = torch.tensor(outputs, requires_grad=True)
    loss = task.loss(learned, torch.tensor(targets))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.ndim == 0
    assert learned.grad is not None
    split = ArraySplit(outputs, targets)
    data = Data(split, split, split)
    assert task.check(data) == []
    assert task.output_size(data) in (4, (4,))
