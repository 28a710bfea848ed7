from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.distillation.loss_term import LossTerm
from compress.distillation.method import Distillation
from compress.distillation.teacher import Teacher
from compress.distillation.terms.feature import FEATURES
from compress.distillation.terms.layers import LAYERS
from compress.distillation.terms.response import RESPONSES
from compress.distillation.terms.table import LABELS, check_fit, looks_inside, place_terms
from compress.errors import UsageError
from compress.tasks.task import Task
from compress.training.method import TorchBatch, TrainingProgress
from tests.distillation.networks import convolution, images, sentences, site, task_of, text

NAMES = tuple(LossTerm.model_fields)
SETTINGS: dict[str, dict[str, Any]] = {
    "minilm_v2": {"relation_heads": 4},
    "crd": {"negatives": 6, "width": 8},
}
"""What a loss needs where its defaults are made for larger networks."""
STEPS = 3


def pair(name: str) -> tuple[nn.Module, nn.Module, TorchBatch, Task]:
    """(student, larger teacher, batch, task) for a loss: texts for those of transformers, images for the others."""
    targets, indices = torch.tensor([0, 1, 1, 0, 1, 0]), torch.arange(6)
    if name in LAYERS:
        student, teacher = text("bert", seed=1), text("bert", layers=4, width=32)
        return student, teacher, TorchBatch(sentences(6), targets, indices), task_of("text-classification")
    student, teacher = convolution("resnet8", seed=1), convolution("resnet14", width=0.5)
    return student, teacher, TorchBatch((images(6, 16),), targets, indices), task_of()


def terms_of(losses: list[Any], student: nn.Module, teacher: nn.Module, batch: TorchBatch, task: Task) -> nn.ModuleList:
    read = [LossTerm.model_validate(loss) for loss in losses]
    return place_terms(read, lambda: site(student, teacher, batch.inputs, task, len(batch.indices)), seed=0)


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_every_loss_that_yaml_can_name_has_its_place() -> None:
    placed = [*LABELS, *RESPONSES, *FEATURES, *LAYERS]
    assert sorted(placed) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_never_reach_a_teacher_and_its_batch_statistics_never_move(name: str) -> None:
    student, teacher, batch, task = pair(name)
    teacher(*batch.inputs)  # in training mode, so that its statistics are not those of a new network
    assert teacher.training
    before = bits(teacher)
    terms = terms_of([{name: SETTINGS.get(name, {})}], student, teacher, batch, task)
    method = Distillation(Teacher(teacher), terms, task, 1 if name in LAYERS else None)
    learnt = [*student.parameters(), *terms.parameters()]
    optimizer = torch.optim.SGD(learnt, lr=1e-3)
    student.train()
    terms.train()
    for step in range(STEPS):
        loss = method.loss(student, batch, TrainingProgress(0, step, 10 * STEPS, seed=0))
        assert loss.shape == ()
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
        parts = [p for p in terms.parameters() if p.grad is not None and torch.isfinite(p.grad).all()]
        # MobileBERT teaches one layer at a time, the first of two here.
        assert len(parts) == len(list(terms.parameters())) // (2 if name == "mobilebert" else 1)
        optimizer.step()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in LABELS])
def test_losses_fall_when_they_are_trained(name: str) -> None:
    student, teacher, batch, task = pair(name)
    terms = terms_of([{name: SETTINGS.get(name, {})}], student, teacher, batch, task)
    method = Distillation(Teacher(teacher), terms, task, 1 if name in LAYERS else None)
    optimizer = torch.optim.Adam([*student.parameters(), *terms.parameters()], lr=3e-3)
    losses = []
    for _ in range(15):
        loss = method.loss(student, batch, TrainingProgress(0, 0, 10, seed=0))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses


def test_learnt_parts_begin_as_the_seed_says_and_leave_the_global_one_alone() -> None:
    student, teacher, batch, task = pair("hint")
    before = torch.random.get_rng_state()
    first, again, both = (
        bits(terms_of(losses, student, teacher, batch, task)) for losses in (["hint"], ["hint"], ["kl", "hint"])
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not any(torch.equal(tensor, both[f"1.{name[2:]}"]) for name, tensor in first.items() if "0.weight" in name)


def test_networks_are_not_run_for_losses_between_answers() -> None:
    read = [LossTerm.model_validate(name) for name in (*LABELS, *RESPONSES)]
    assert len(place_terms(read, lambda: pytest.fail("the networks were run"), 0)) == len(read)


def test_losses_of_classes_are_refused_where_the_task_has_values() -> None:
    values = task_of("regression")
    check_fit([LossTerm.model_validate(name) for name in ("mse", "task", "hint")], values)
    with pytest.raises(UsageError, match="dkd, cross_entropy need classes, and the task regression has values"):
        check_fit([LossTerm.model_validate(name) for name in ("mse", "dkd", "cross_entropy")], values)
    check_fit([LossTerm.model_validate(name) for name in NAMES], task_of())


def test_values_have_no_logits_to_standardize() -> None:
    standardized = [LossTerm.model_validate({"mse": {"standardize": True}})]
    with pytest.raises(UsageError, match=r"mse\.standardize has no effect on the values of the task regression"):
        check_fit(iter(standardized), task_of("regression"))
    check_fit(standardized, task_of())


def test_losses_that_look_inside_are_told_apart() -> None:
    read = [LossTerm.model_validate(name) for name in ("kl", "hint", "task", "minilm")]
    assert looks_inside(read) == ["hint", "minilm"]
