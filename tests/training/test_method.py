from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.data.collate import IGNORED
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task
from compress.training.method import Supervised, TorchBatch, TrainingProgress, label_loss

HERE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_cross_entropy_with_smoothed_labels(task: Task, smoothing: float) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(4, 3), torch.randn(5, 4), torch.tensor([0, 1, 2, 1, 0])
    batch = TorchBatch((inputs,), targets, torch.arange(5))
    soft = functional.one_hot(targets, 3) * (1 - smoothing) + smoothing / 3
    expected = -(soft * model(inputs).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(Supervised(task, smoothing).loss(model, batch, HERE), expected)


@pytest.mark.parametrize("name", ["causal-lm", "masked-lm", "sequence-to-sequence"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_of_tokens_are_smoothed_where_they_count(name: str, smoothing: float) -> None:
    torch.manual_seed(0)
    model, inputs = nn.Linear(4, 6).double(), torch.randn(2, 5, 4).double()
    targets = torch.tensor([[0, IGNORED, 5, 2, IGNORED], [IGNORED, 3, 1, IGNORED, IGNORED]])
    method = Supervised(open_task(TaskSettings(name=name)), smoothing)
    found = method.loss(model, TorchBatch((inputs,), targets, torch.arange(2)), HERE)
    counted = targets != IGNORED
    soft = functional.one_hot(targets[counted], 6) * (1 - smoothing) + smoothing / 6
    torch.testing.assert_close(found, -(soft * model(inputs)[counted].log_softmax(1)).sum(1).mean())


def test_smoothed_labels_of_which_none_counts_cost_nothing() -> None:
    outputs = torch.randn(2, 3, 4, requires_grad=True)
    nothing = torch.full((2, 3), IGNORED)
    found = label_loss(open_task(TaskSettings(name="causal-lm")), outputs, nothing, 0.1)
    found.backward()  # type: ignore[no-untyped-call]
    assert found.item() == 0
    assert outputs.grad is not None


def test_without_smoothing_the_loss_is_the_tasks_own_to_the_last_bit(task: Task) -> None:
    outputs, targets = (
        torch.randn(7, 3, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 2, 0, 1, 2, 0]),
    )
    assert torch.equal(label_loss(task, outputs, targets), task.loss(outputs, targets))
    assert torch.equal(label_loss(task, outputs, targets, 0.0), functional.cross_entropy(outputs, targets))


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
    assert TrainingProgress(0, 0, 0, 0).fraction == 0
