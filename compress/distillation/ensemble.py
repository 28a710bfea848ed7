"""Several teachers, and teachers that are the student's own past."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.distillation.outputs import Seen
from compress.distillation.teacher import Teacher
from compress.distillation.teacher_settings import Average
from compress.errors import UsageError
from compress.tasks.task import Task
from compress.training.method import TorchBatch, TrainingProgress
from compress.training.state import copy_of, restore


class Ensemble(Teacher):
    """The weighted mean of several teachers' answers, each heard only on the examples of its domain.

    Args:
        teachers: each may be a cached one.
        weights: their shares, relative to each other.
        domains: for each teacher the class numbers that it teaches; None: all. An example that is in no teacher's
            domain, or has no label, is taught by all.
        average: of `probabilities` (of the softmax without temperature, given back as their logarithm) or of `logits`.
        class_axis: where the classes are.
    """

    def __init__(
        self,
        teachers: Sequence[Teacher],
        weights: Sequence[float],
        domains: Sequence[Tensor | None],
        average: Average,
        class_axis: int = 1,
    ) -> None:
        self.module = None
        self.teachers, self.weights, self.domains = list(teachers), list(weights), list(domains)
        self.average, self.class_axis = average, class_axis
        self.notes = tuple(dict.fromkeys(note for teacher in teachers for note in teacher.notes))

    def __call__(self, batch: TorchBatch, points: Sequence[str], progress: TrainingProgress) -> Seen | None:
        """The mean answer; there is nothing at points."""
        answers = []
        for teacher in self.teachers:
            seen = teacher(batch, (), progress)
            assert seen is not None
            answers.append(seen.logits)
        return Seen(combined(answers, self._shares(batch.targets, answers[0]), self.average, self.class_axis))

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        """That of the teachers whose answers are kept, which have the same views; the others see what is shown."""
        asked = [teacher.augmentation(seed, epoch) for teacher in self.teachers]
        return next((one for one in asked if one != (seed, epoch)), (seed, epoch))

    def _shares(self, targets: Tensor, answer: Tensor) -> Tensor:
        """(teachers, examples): what each counts for each example; they sum to 1."""
        shares = torch.tensor(self.weights, device=answer.device, dtype=torch.float32)[:, None]
        shares = shares.expand(-1, len(answer)).clone()
        for row, domain in enumerate(self.domains):
            if domain is not None and (targets.ndim != 1 or targets.is_floating_point()):
                raise UsageError("teacher.classes: examples of this task are not each of one class")
            if domain is not None:
                inside = torch.isin(targets, domain.to(targets.device)) | (targets < 0)
                shares[row] *= inside.to(shares.device)
        lost = shares.sum(0) == 0
        shares[:, lost] = torch.tensor(self.weights, device=answer.device)[:, None]
        return shares / shares.sum(0)


def averaged(average: Average | None, task: Task) -> Average:
    """What is averaged of several teachers: what was asked for; else probabilities of classes, and values themselves.

    Raises:
        UsageError: probabilities are asked for, and the task has values.
    """
    if task.distillation == "classes":
        return average or "probabilities"
    if average == "probabilities":
        raise UsageError(
            f"average: probabilities are those of classes, and the task {task.name} has values: write `average: logits`"
        )
    return "logits"


def combined(answers: Sequence[Tensor], shares: Tensor, average: Average, class_axis: int = 1) -> Tensor:
    """One answer from several.

    Args:
        answers: logits of each teacher, of one shape, (examples, ...).
        shares: (teachers, examples), summing to 1 over teachers.
        average: `logits`: their mean; `probabilities`: the logarithm of the mean of their softmax.
        class_axis: the axis of the softmax.
    """
    stacked = torch.stack([answer.float() for answer in answers])
    weights = shares.reshape(*shares.shape, *([1] * (stacked.ndim - 2)))
    if average == "logits":
        return (weights * stacked).sum(0)
    axis = class_axis if class_axis < 0 else class_axis + 1
    return torch.logsumexp(stacked.log_softmax(axis) + weights.log(), dim=0)


class MovingAverage(Teacher):
    """An exponential moving average of the student's weights (Tarvainen and Valpola 2017, "Mean teachers", eq. 1).

    Buffers (batch statistics) are the student's own.
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        super().__init__(copy.deepcopy(student).requires_grad_(False))
        self.decay = decay

    def before_step(self, student: nn.Module, progress: TrainingProgress) -> None:
        """Follow the student; in the first steps faster, as `min(decay, (1 + step) / (10 + step))`."""
        assert self.module is not None
        decay = min(self.decay, (1 + progress.step) / (10 + progress.step))
        self.module.to(next(student.parameters()).device)
        with torch.no_grad():
            for average, weight in zip(self.module.parameters(), student.parameters(), strict=True):
                average.lerp_(weight, 1 - decay)
            for own, theirs in zip(self.module.buffers(), student.buffers(), strict=True):
                own.copy_(theirs)
        self.module.eval()

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights."""
        assert self.module is not None
        return {f"ema.{name}": tensor for name, tensor in copy_of(self.module).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        assert self.module is not None
        restore(self.module, {name.removeprefix("ema."): t for name, t in state.items() if name.startswith("ema.")})


class OlderSelf(Teacher):
    """The student as it was `epochs` epochs ago; silent before that."""

    def __init__(self, student: nn.Module, epochs: int) -> None:
        super().__init__(copy.deepcopy(student).requires_grad_(False))
        self.epochs = epochs
        self.kept: dict[int, dict[str, Tensor]] = {}
        self._loaded: int | None = None

    def __call__(self, batch: TorchBatch, points: Sequence[str], progress: TrainingProgress) -> Seen | None:
        """The answers of the older student."""
        if progress.epoch < self.epochs:
            return None
        return super().__call__(batch, points, progress)

    def before_step(self, student: nn.Module, progress: TrainingProgress) -> None:
        """At the first step of an epoch keep the student, and become the one of `epochs` epochs ago."""
        assert self.module is not None
        epoch = progress.epoch
        if epoch not in self.kept:
            self.kept = {e: state for e, state in self.kept.items() if e >= epoch - self.epochs}
            self.kept[epoch] = {name: tensor.detach().clone() for name, tensor in copy_of(student).items()}
        wanted = epoch - self.epochs
        if self._loaded != wanted and wanted in self.kept:
            self.module.to(next(student.parameters()).device)
            restore(self.module, self.kept[wanted])
            self._loaded = wanted
        self.module.eval()

    def state_dict(self) -> dict[str, Any]:
        """The students that are still needed, by epoch."""
        return {f"past.{epoch}.{name}": t for epoch, state in self.kept.items() for name, t in state.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.kept, self._loaded = {}, None
        for key, tensor in state.items():
            if key.startswith("past."):
                _, epoch, name = key.split(".", 2)
                self.kept.setdefault(int(epoch), {})[name] = tensor
