"""A student learns from a teacher's answers and from the labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from compress.data.dataset import Data
from compress.distillation.losses.table import LOSSES, Answers
from compress.distillation.settings import LossTerm
from compress.distillation.teacher import Teacher, check_answers, open_teacher
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.fit import fit
from compress.training.log import FitLog
from compress.training.method import Method, TorchBatch, TrainingProgress
from compress.training.settings import Recipe

_CLASS_LOSSES = ("kl", "cross_entropy")


def default_losses(task: Task) -> tuple[LossTerm, ...]:
    """Softened classes and some of the labels where outputs are classes; the teacher's values and the targets else."""
    if task.distillation == "classes":
        terms: list[dict[str, Any]] = [{"kl": {"temperature": 4.0, "weight": 0.9}}, {"task": {"weight": 0.1}}]
    else:
        terms = [{"mse": {"weight": 1.0}}, {"task": {"weight": 1.0}}]
    return tuple(LossTerm.model_validate(term) for term in terms)


def chosen_losses(losses: Iterable[LossTerm | Mapping[str, Any] | str] | None, task: Task) -> tuple[LossTerm, ...]:
    """The terms to use: those given (as settings or as YAML has them) or the task's default.

    Raises:
        UsageError: a term needs classes and the task has values.
    """
    if losses is None:
        return default_losses(task)
    terms = tuple(term if isinstance(term, LossTerm) else LossTerm.model_validate(term) for term in losses)
    wrong = [term.name for term in terms if term.name in _CLASS_LOSSES]
    if wrong and task.distillation != "classes":
        names = ", ".join(wrong)
        raise UsageError(f"losses: {names} need classes, and the task {task.name} has values: use mse and task")
    return terms


class Distillation(Method):
    """The weighted sum of loss terms between a student, its teacher and the targets."""

    def __init__(self, teacher: Teacher, losses: Sequence[LossTerm], task: Task) -> None:
        self.teacher = teacher
        self.losses = tuple(losses)
        self.task = task

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """Sum of weight times term."""
        teacher = self.teacher(batch)
        student = model(*batch.inputs)
        check_answers(student, teacher)
        answers = Answers(student, teacher, batch.targets, self.task.loss)
        parts = [term.settings.weight * LOSSES[term.name](term.settings, answers) for term in self.losses]
        return sum(parts[1:], start=parts[0])


def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: Data,
    task: Task,
    recipe: Recipe,
    losses: Iterable[LossTerm | Mapping[str, Any] | str] | None = None,
    context: Context | None = None,
    *,
    cache_teacher: bool = True,
) -> FitLog:
    """Train `student` in place to answer like `teacher`, which is put into evaluation mode and left as it is.

    Args:
        student: ends in evaluation mode with the weights that the recipe keeps.
        teacher: any module whose outputs have the student's shape.
        data: examples; the teacher sees the same augmented ones as the student.
        task: gives the targets' loss and the validation metric.
        recipe: how long and how fast.
        losses: terms, each with its weight; None for `default_losses`.
        context: seed, device, threads, processes, checkpoints.
        cache_teacher: whether the teacher may answer once for all epochs where examples are not augmented.

    Raises:
        UsageError: teacher and student answer in different shapes, or a loss does not fit the task; and as `fit`.
        StageError: as `fit` does.
    """
    context = context or Context()
    terms = chosen_losses(losses, task)
    home = next((p.device for p in teacher.parameters()), None)
    try:
        opened = open_teacher(teacher, data, context, cache=cache_teacher)
        return fit(student, data, task, Distillation(opened, terms, task), recipe, context=context)
    finally:
        if home is not None:
            teacher.to(home)
