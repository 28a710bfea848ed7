from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.distillation.distill import distill
from compress.distillation.loss_term import LossTerm
from compress.distillation.method import Distillation
from compress.distillation.outputs import Seen
from compress.distillation.teacher import Teacher
from compress.distillation.terms.table import place_terms
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.checkpoint import CHECKPOINT_SECONDS
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.settings import Recipe
from tests.distillation.networks import convolution, images, site, task_of, text

MakeNetwork = Callable[..., nn.Sequential]
CONTEXT = Context(threads=1)
BATCH = TorchBatch((images(4, 16),), torch.tensor([0, 1, 2, 3]), torch.arange(4))


class Spy(Teacher):
    """A teacher that remembers which points it was asked for."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, batch: TorchBatch, points: Sequence[str], progress: TrainingProgress) -> Seen | None:
        self.asked.append(tuple(points))
        return super().__call__(batch, points, progress)


def at(step: int) -> TrainingProgress:
    return TrainingProgress(epoch=0, step=step, steps=10, seed=0)


def method_of(losses: list[Any]) -> tuple[Distillation, Spy, nn.Module]:
    student, teacher = convolution(seed=1), Spy(convolution("resnet14"))
    assert teacher.module is not None
    read, module, task = [LossTerm.model_validate(loss) for loss in losses], teacher.module, task_of()
    terms = place_terms(read, lambda: site(student, module, BATCH.inputs, task, 4), seed=0)
    return Distillation(teacher, terms, task), teacher, student


def test_the_loss_is_the_sum_of_weights_times_terms() -> None:
    losses = [{"kl": {"weight": 0.7}}, {"rkd": {"weight": 2.0}}, {"task": {"weight": 0.1}}]
    parts = []
    for loss in losses:
        [(name, settings)] = loss.items()
        alone, _, student = method_of([{name: {}}])
        parts.append(settings["weight"] * alone.loss(student.eval(), BATCH, at(0)).item())
    together, _, student = method_of(losses)
    assert together.loss(student.eval(), BATCH, at(0)).item() == pytest.approx(sum(parts), rel=1e-5)


def test_terms_without_weight_are_not_computed() -> None:
    phases = {"first": 1, "last": 0, "begin": 0.5, "end": 0.5, "shape": "step"}
    hint = {"hint": {"student": "layer2", "teacher": "layer2", "weight": phases}}
    method, teacher, student = method_of([hint, "task"])
    projector = next(method.terms.parameters())
    method.loss(student, BATCH, at(4)).backward()  # type: ignore[no-untyped-call]
    assert teacher.asked == [("layer2",)]
    assert projector.grad is not None
    projector.grad = None
    method.loss(student, BATCH, at(5)).backward()  # type: ignore[no-untyped-call]
    assert teacher.asked == [("layer2",)], "a teacher that nothing reads was asked"
    assert projector.grad is None


def test_each_point_is_read_once_for_all_terms() -> None:
    method, teacher, student = method_of(["hint", "attention_transfer", "pkt"])
    method.loss(student, BATCH, at(0))
    assert set(teacher.asked[0]) == {"layer1", "layer2", "layer3", "linear:input"}


def test_all_terms_at_nothing_leave_a_loss_of_nothing() -> None:
    method, _, student = method_of([{"kl": {"weight": {"first": 0, "last": 1, "begin": 0.5}}}])
    loss = method.loss(student, BATCH, at(0))
    assert loss.item() == 0
    assert loss.requires_grad


def test_only_terms_with_learnt_parts_are_trained_and_kept() -> None:
    assert method_of(["kl", "rkd", "task"])[0].modules() is None
    method = method_of(["kl", "hint"])[0]
    assert method.modules() is method.terms
    assert all(name.startswith("1.projectors.") for name in method.terms.state_dict())


def test_the_mask_is_one_of_the_inputs() -> None:
    task, inputs = task_of("text-classification"), (torch.ones(2, 5, dtype=torch.int64),) * 2
    read = [LossTerm.model_validate("hidden")]
    terms = place_terms(read, lambda: site(text("bert"), text("bert"), inputs, task), seed=0)
    method = Distillation(Teacher(text("bert")), terms, task, mask_input=1)
    student, ids = text("bert", seed=1).eval(), torch.ones(2, 5, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    found = method.loss(student, TorchBatch((ids, mask), torch.tensor([0, 1]), torch.arange(2)), at(0)).item()
    full = method.loss(student, TorchBatch((ids, mask | 1), torch.tensor([0, 1]), torch.arange(2)), at(0)).item()
    assert found != pytest.approx(full, rel=1e-4)


class Stop(Exception):
    pass


LEARNT: list[Any] = [
    {"hint": {"student": "0", "teacher": "0"}},
    {"crd": {"negatives": 20, "width": 8, "weight": 0.1}},
    {"task": {"weight": 0.5}},
]
LEARNT_PARTS = ("0.projectors.0.layers.0.weight", "1.bank.student_bank", "1.bank.teacher_embedding.weight")


@pytest.mark.parametrize("stop", [0, 4, 5, 8])
def test_projectors_and_banks_go_on_from_a_checkpoint_to_the_same_bits(
    stop: int, data: Data, task: Task, make_network: MakeNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, teacher = Recipe(epochs=3, batch_size=30), make_network(width=8, seed=3)
    kept: list[nn.Module] = []
    begun: dict[str, Tensor] = {}
    modules = Distillation.modules

    def noted(self: Distillation) -> nn.Module | None:
        found = modules(self)
        assert found is not None
        kept.append(found)
        begun.update({name: tensor.clone() for name, tensor in found.state_dict().items()})
        return found

    monkeypatch.setattr(Distillation, "modules", noted)
    whole, again = make_network(), make_network()
    expected = distill(whole, teacher, data, task, recipe, LEARNT, CONTEXT)
    monkeypatch.setenv(CHECKPOINT_SECONDS, "0")
    context = replace(CONTEXT, checkpoints=tmp_path)

    def interrupted(self: Any, progress: TrainingProgress) -> None:
        if progress.step == stop:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Distillation, "after_step", interrupted)
        distill(make_network(), teacher, data, task, recipe, LEARNT, context)
    assert bool(list(tmp_path.iterdir())) == (stop > 0)
    log = distill(again, teacher, data, task, recipe, LEARNT, context)
    assert replace(log, seconds=0) == replace(expected, seconds=0)
    assert all(torch.equal(tensor, whole.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert all(torch.equal(tensor, kept[2].state_dict()[name]) for name, tensor in kept[0].state_dict().items())
    assert not any(torch.equal(kept[0].state_dict()[name], begun[name]) for name in LEARNT_PARTS)
