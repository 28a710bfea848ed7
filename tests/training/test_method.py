from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.tasks.task import Task
from compress.training.method import Supervised, TorchBatch, TrainingProgress

HERE = TrainingProgress(epoch=0, step=0, steps=10, epochs=1, seed=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_cross_entropy_with_smoothed_labels(task: Task, smoothing: float) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0])
    batch = TorchBatch((inputs,), targets, torch.arange(5))
    soft = functional.one_hot(targets, 3) * (1 - smoothing) + smoothing / 3
    expected = -(soft * model(inputs).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(Supervised(task, smoothing).loss(model, batch, HERE), expected)


def test_defaults_change_modes_and_nothing_else(task: Task) -> None:
    method, model = Supervised(task), nn.Dropout()
    method.eval_mode(model)
    assert not model.training
    method.train_mode(model)
    assert model.training
    assert method.modules() is None
    assert method.state_dict() == {}
    assert method.may_keep(HERE)


def test_fraction_of_an_empty_run_is_defined() -> None:
    assert TrainingProgress(0, 0, 0, 0, 0).fraction == 0
