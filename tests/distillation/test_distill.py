from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.data.dataset import ArraySplit, Data
from compress.distillation.distill import Distillation, chosen_losses, default_losses, distill
from compress.distillation.settings import LossTerm
from compress.distillation.teacher import Teacher
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task
from compress.training.evaluate import predict
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.settings import Recipe
from compress.training.train import train

MakeNetwork = Callable[..., nn.Sequential]
CONTEXT = Context(threads=1)
HERE = TrainingProgress(epoch=0, step=0, steps=10, epochs=1, seed=0)
LOSSES = [{"kl": {"temperature": 3, "weight": 0.7}}, {"cross_entropy": {"weight": 0.2}}, {"mse": {"weight": 0.5}}]


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_loss_is_the_weighted_sum_with_gradients_for_the_student_only(task: Task) -> None:
    torch.manual_seed(0)
    student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    batch = TorchBatch((torch.randn(6, 4),), torch.tensor([0, 1, 2, 0, 1, 2]), torch.arange(6))
    method = Distillation(Teacher(teacher), chosen_losses(LOSSES, task), task)
    loss = method.loss(student, batch, HERE)
    own, theirs = student(*batch.inputs), teacher(*batch.inputs)
    p, q = (theirs / 3).softmax(1), (own / 3).softmax(1)
    expected = (
        0.7 * 9 * (p * (p / q).log()).sum(1).mean()
        + 0.2 * functional.cross_entropy(own, batch.targets)
        + 0.5 * ((own - theirs) ** 2).mean()
    )
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert student.weight.grad is not None
    assert teacher.weight.grad is None


@pytest.mark.parametrize("cache_teacher", [True, False])
def test_a_student_learns_from_the_teacher_alone(
    data: Data, task: Task, make_network: MakeNetwork, cache_teacher: bool
) -> None:
    teacher = make_network(width=8)
    train(teacher, data, task, Recipe(epochs=12, learning_rate=0.01), CONTEXT)
    before = state(teacher)
    wrong = ArraySplit(data.train.inputs, np.zeros(120, np.int64))  # type: ignore[attr-defined]
    unlabelled = replace(data, train=wrong)
    student = make_network(width=4, seed=1, dropout=0.0)
    recipe = Recipe(epochs=20, learning_rate=0.01)
    distill(student, teacher, unlabelled, task, recipe, ["kl"], CONTEXT, cache_teacher=cache_teacher)
    same = predict(student, data, data.test).argmax(1) == predict(teacher, data, data.test).argmax(1)
    assert same.mean() >= 0.9
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not teacher.training
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_values_are_distilled_by_their_squares() -> None:
    generator = np.random.default_rng(0)

    def split(examples: int) -> ArraySplit:
        inputs = generator.normal(size=(examples, 4)).astype(np.float32)
        return ArraySplit(inputs, inputs[:, :2] + generator.normal(size=(examples, 2)).astype(np.float32))

    data, task = Data(split(200), split(50), split(50)), open_task(TaskSettings(name="regression"))
    teacher, student = nn.Linear(4, 2), nn.Linear(4, 2)
    distill(student, teacher, data, task, Recipe(epochs=30, learning_rate=0.05, keep="last"), ["mse"], CONTEXT)
    torch.testing.assert_close(student.weight, teacher.weight, rtol=0, atol=2e-2)


def test_default_terms_follow_the_task(task: Task) -> None:
    values = open_task(TaskSettings(name="regression"))
    assert [(term.name, term.settings.weight) for term in default_losses(task)] == [("kl", 0.9), ("task", 0.1)]
    assert [(term.name, term.settings.weight) for term in default_losses(values)] == [("mse", 1.0), ("task", 1.0)]
    assert chosen_losses(None, task) == default_losses(task)
    assert chosen_losses([{"mse": {}}, LossTerm.model_validate("kl")], task)[0].name == "mse"
    with pytest.raises(UsageError, match="cross_entropy need classes"):
        chosen_losses(["mse", "cross_entropy"], values)


def test_teachers_that_answer_something_else_are_refused(data: Data, task: Task, make_network: MakeNetwork) -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
    with pytest.raises(UsageError, match=r"teacher's output has shape \(5,\)"):
        distill(make_network(), teacher, data, task, Recipe(epochs=1), context=CONTEXT)
