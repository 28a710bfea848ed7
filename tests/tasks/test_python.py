from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.data.dataset import ArraySplit, Data
from compress.errors import UsageError
from compress.tasks.open import open_task
from compress.tasks.settings import read_task_settings
from compress.tasks.task import Task

SOURCE = """
import numpy as np

def loss(outputs, targets):
    return (outputs - targets).abs().mean()

def psnr(outputs, targets):
    return -10 * np.log10(np.mean((outputs - targets) ** 2))

def task(scale=1.0):
    return {
        "loss": lambda outputs, targets: scale * loss(outputs, targets),
        "metric": psnr, "metric_name": "psnr", "higher_is_better": True,
    }

def rich():
    return {
        "loss": loss, "metric": lambda outputs, targets: {"other": 1, "metric": 2}, "higher_is_better": False,
        "distillation": "classes", "agreement": lambda outputs, reference: 0.25, "output_size": lambda data: [3, 4],
    }

def wrong():
    return {
        "loss": lambda outputs, targets: outputs, "metric": lambda outputs, targets: "high",
        "higher_is_better": True,
    }

def broken():
    return {"loss": loss, "metric": lambda outputs, targets: outputs.nothing, "higher_is_better": True}

def lacking():
    return {"loss": loss, "metrics": psnr}

def number():
    return 3

def unknown_distillation():
    return {"loss": loss, "metric": psnr, "higher_is_better": True, "distillation": "logits"}

def no_function():
    return {"loss": 3, "metric": psnr, "higher_is_better": True}
"""

OUTPUTS = np.random.default_rng(0).normal(size=(60, 2))
TARGETS = OUTPUTS + np.random.default_rng(1).normal(size=(60, 2)) * 0.1


def opened(folder: Path, function: str, **arguments: Any) -> Task:
    (folder / "mine.py").write_text(SOURCE)
    return open_task(read_task_settings({f"mine.py:{function}": arguments}, folder))


def test_the_users_loss_and_metric(tmp_path: Path) -> None:
    task = opened(tmp_path, "task", scale=3.0)
    assert (task.name, task.metric, task.higher_is_better, task.distillation) == (
        "mine.py:task",
        "psnr",
        True,
        "values",
    )
    expected = 3 * np.abs(OUTPUTS - TARGETS).mean()
    assert float(task.loss(torch.tensor(OUTPUTS), torch.tensor(TARGETS))) == pytest.approx(expected)
    value = -10 * np.log10(np.mean((OUTPUTS - TARGETS) ** 2))
    assert task.metrics(OUTPUTS, TARGETS) == {"psnr": pytest.approx(value)}
    low, high = task.interval(OUTPUTS, TARGETS)
    assert low < value < high
    assert task.agreement(OUTPUTS, OUTPUTS) == 1
    split = ArraySplit(OUTPUTS, TARGETS)
    assert task.output_size(Data(split, split, split)) == (2,)
    assert task.check(Data(split, split, split)) == []


def test_everything_can_be_said(tmp_path: Path) -> None:
    task = opened(tmp_path, "rich")
    assert list(task.metrics(OUTPUTS, TARGETS).items()) == [("metric", 2.0), ("other", 1.0)]
    assert task.distillation == "classes"
    assert task.agreement(OUTPUTS, OUTPUTS) == 0.25
    split = ArraySplit(OUTPUTS, TARGETS)
    assert task.output_size(Data(split, split, split)) == (3, 4)


def test_what_the_functions_give_is_checked(tmp_path: Path) -> None:
    task = opened(tmp_path, "wrong")
    with pytest.raises(UsageError, match="the loss must be a scalar tensor"):
        task.loss(torch.zeros(3), torch.zeros(3))
    with pytest.raises(UsageError, match="a metric must be a number"):
        task.metrics(OUTPUTS, TARGETS)
    with pytest.raises(UsageError, match=r"mine\.py:broken, metric: AttributeError.*line \d+ of .*mine\.py"):
        opened(tmp_path, "broken").metrics(OUTPUTS, TARGETS)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("lacking", "lacks 'metric'(.|\n)*lacks 'higher_is_better'(.|\n)*unknown key 'metrics'"),
        ("number", "must return a mapping with loss, metric, higher_is_better; got int"),
        ("unknown_distillation", "distillation must be classes or values, got 'logits'"),
        ("no_function", "'loss' must be a function, got int"),
        ("absent", "'absent' does not exist"),
    ],
)
def test_what_the_function_does_wrong_is_said(function: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        opened(tmp_path, function)
