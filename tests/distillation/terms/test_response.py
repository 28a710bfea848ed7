from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from compress.data.collate import IGNORED
from compress.distillation.exchange import Exchange
from compress.distillation.loss_term import LossTerm
from compress.distillation.losses.dist import dist
from compress.distillation.losses.dkd import dkd
from compress.distillation.losses.jsd import generalized_jsd
from compress.distillation.losses.kl import kl
from compress.distillation.losses.mlkd import mlkd
from compress.distillation.losses.mse import mse
from compress.distillation.losses.reverse_kl import reverse_kl
from compress.distillation.losses.soft_cross_entropy import soft_cross_entropy
from compress.distillation.losses.standardize import standardize
from compress.distillation.method import Distillation
from compress.distillation.outputs import Seen
from compress.distillation.teacher import Teacher
from compress.distillation.terms.response import RESPONSES
from compress.distillation.terms.table import place_terms
from compress.errors import UsageError
from compress.training.method import TorchBatch, TrainingProgress
from tests.distillation.networks import sentences, task_of, text

HERE = TrainingProgress(epoch=0, step=0, steps=10, seed=0)
STUDENT, TEACHER = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).unbind()
TARGETS = torch.tensor([0, 1, 2, 3, 0, 1])


def value(loss: Any, student: Tensor = STUDENT, teacher: Tensor = TEACHER, targets: Tensor = TARGETS,
          task: str = "image-classification") -> Tensor:  # fmt: skip
    [term] = place_terms([LossTerm.model_validate(loss)], lambda: pytest.fail("not needed"), 0)
    found: Tensor = term(
        Exchange(Seen(student), Seen(teacher), targets, torch.arange(len(student)), task_of(task), HERE)
    )
    return found


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("kl", kl(STUDENT, TEACHER, 4.0)),
        ({"kl": {"temperature": 2}}, kl(STUDENT, TEACHER, 2.0)),
        ({"soft_cross_entropy": {"temperature": 2}}, soft_cross_entropy(STUDENT, TEACHER, 2.0)),
        ("mse", mse(STUDENT, TEACHER)),
        ("reverse_kl", reverse_kl(STUDENT, TEACHER, 1.0)),
        ({"jsd": {"beta": 0.2, "temperature": 3}}, generalized_jsd(STUDENT, TEACHER, 0.2, 3.0)),
        ({"dkd": {"alpha": 0.5, "beta": 2, "temperature": 3}}, dkd(STUDENT, TEACHER, TARGETS, 0.5, 2.0, 3.0)),
        ({"dist": {"beta": 0.5, "gamma": 2, "temperature": 3}}, dist(STUDENT, TEACHER, 0.5, 2.0, 3.0)),
        ({"mlkd": {"temperatures": [2, 5]}}, mlkd(STUDENT, TEACHER, (2.0, 5.0))),
        ({"kl": {"standardize": True}}, kl(standardize(STUDENT), standardize(TEACHER), 4.0)),
        (
            {"cross_entropy": {"label_smoothing": 0.1}},
            functional.cross_entropy(STUDENT, TARGETS, label_smoothing=0.1),
        ),
        ("task", functional.cross_entropy(STUDENT, TARGETS)),
    ],
)
def test_settings_reach_the_functions(loss: Any, expected: Tensor) -> None:
    torch.testing.assert_close(value(loss), expected)


def test_values_are_compared_as_they_are() -> None:
    targets = torch.zeros(6, 4)
    expected = ((STUDENT.numpy() - TEACHER.numpy()) ** 2).mean()
    np.testing.assert_allclose(value("mse", targets=targets, task="regression").item(), expected, rtol=1e-6)
    with pytest.raises(UsageError, match="must answer the same question"):
        value("mse", teacher=TEACHER[:, :3], targets=targets, task="regression")


@pytest.mark.parametrize("loss", ["task", "cross_entropy"])
def test_examples_without_a_label_do_not_count_for_labels(loss: str) -> None:
    some = torch.tensor([0, -1, 2, -1, -1, 1])
    known = [0, 2, 5]
    torch.testing.assert_close(value(loss, targets=some), value(loss, STUDENT[known], TEACHER[known], some[known]))
    assert value(loss, targets=torch.full((6,), -1)).item() == 0


@pytest.mark.parametrize("loss", [*RESPONSES, "task", "cross_entropy"])
def test_a_batch_of_texts_where_nothing_counts_costs_nothing(loss: str) -> None:
    student = STUDENT.reshape(2, 3, 4).clone().requires_grad_()
    nothing = torch.full((2, 3), IGNORED)
    found = value(loss, student, TEACHER.reshape(2, 3, 4), nothing, "masked-lm")
    assert found.item() == 0
    found.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("positions", ["targets", "all"])
@pytest.mark.parametrize("loss", [*RESPONSES, "task", "cross_entropy"])
def test_padding_changes_no_loss_between_answers_to_tokens(family: str, positions: str, loss: str) -> None:
    head = "masked-lm" if family == "bert" else "causal-lm"
    student, teacher = text(family, head, seed=1).double().eval(), text(family, head, width=32).double()
    settings = {} if loss in ("task", "cross_entropy") else {"positions": positions}
    terms = place_terms([LossTerm.model_validate({loss: settings})], lambda: pytest.fail("not needed"), 0)
    method = Distillation(Teacher(teacher), terms, task_of(head), mask_input=1)
    found = []
    for padding in (0, 5):
        inputs = sentences(padding=padding)
        targets = inputs[0].roll(-1, 1)[:, :6]
        targets = functional.pad(targets.masked_fill(inputs[1][:, 1:7] == 0, IGNORED), (0, 1 + padding), value=IGNORED)
        targets[0, ::2] = IGNORED
        with torch.no_grad():
            found.append(method.loss(student, TorchBatch(inputs, targets, torch.arange(4)), HERE).item())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
    assert found[0] > 0
