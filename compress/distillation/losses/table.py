"""The table of losses: a term's name in YAML -> its function. A new loss is one line here and one in the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from compress.distillation.losses.cross_entropy import cross_entropy
from compress.distillation.losses.kl import kl
from compress.distillation.losses.mse import mse


@dataclass(frozen=True)
class Answers:
    """What a loss term may compare: outputs of student and teacher, the targets, and the task's own loss function."""

    student: Tensor
    teacher: Tensor
    targets: Tensor
    task_loss: Callable[[Tensor, Tensor], Tensor]


LOSSES: dict[str, Callable[[Any, Answers], Tensor]] = {
    "kl": lambda settings, a: kl(a.student, a.teacher, settings.temperature),
    "cross_entropy": lambda settings, a: cross_entropy(a.student, a.targets, settings.label_smoothing),
    "mse": lambda settings, a: mse(a.student, a.teacher),
    "task": lambda settings, a: a.task_loss(a.student, a.targets),
}
