"""One driver for every built-in task."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from compress.data.dataset import Array, ArraySplit, Data
from compress.data.text import TextEncoder
from compress.tasks.open import TASKS, open_task
from compress.tasks.settings import BUILTIN, read_task_settings
from tests.data.text_helpers import opened, table

RANDOM = np.random.default_rng(0)


def test_every_task_has_settings_and_an_opener() -> None:
    assert TASKS.keys() == BUILTIN.keys()


def material(name: str, folder: Path) -> tuple[Data, Array, Array]:
    """Data that the task can take, raw outputs of a network for 40 examples, and their targets."""
    outputs = RANDOM.normal(size=(40, 4)).astype(np.float32)
    targets: Array = outputs + np.float32(0.1) if name == "regression" else np.arange(40) % 4
    if name == "multi-label-classification":
        targets = (RANDOM.random((40, 4)) < 0.5).astype(np.float32)
    split = ArraySplit(outputs, targets)
    if "class" in name or name == "regression":
        return Data(split, split, split), outputs, targets
    rows = [{"q": "the cat sat on the mat", "a": "a dog ."}] * 60
    source = {"table": {"path": table(folder, rows), "input": "q", "target": "a"}}
    data = opened(folder, source, {"targets": "text"})
    logits = RANDOM.normal(size=(40, 6, cast(TextEncoder, data.text).vocabulary_size)).astype(np.float32)
    return data, logits, RANDOM.integers(0, 5, (40, 6))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_keeps_its_contract(name: str, tmp_path: Path) -> None:
    task = open_task(read_task_settings(name))
    data, outputs, targets = material(name, tmp_path)
    answers = task.condense(outputs, targets)
    np.testing.assert_array_equal(task.condense(torch.tensor(outputs), torch.tensor(targets)), answers)
    metrics = task.metrics(answers, targets)
    low, high = task.interval(answers, targets)
    assert task.name == name
    assert next(iter(metrics)) == task.metric
    assert low <= metrics[task.metric] <= high
    assert task.agreement(answers, answers) == 1.0
    learned = torch.tensor(outputs, requires_grad=True)
    loss = task.loss(learned, torch.tensor(targets))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.ndim == 0
    assert learned.grad is not None
    assert task.check(data) == []
    assert task.output_size(task.prepare(data)) in (outputs.shape[-1], outputs.shape[1:])


@pytest.mark.parametrize("name", TASKS)
def test_the_settings_know_the_primary_metric(name: str) -> None:
    settings = read_task_settings(name)
    known = settings.primary_metric
    assert known == ("mean error" if name == "regression" else open_task(settings).metric)
