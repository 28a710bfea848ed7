"""All that the keys of `distill:` ask for, on modules: what the stage and the library's function both do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from compress.data.dataset import Data
from compress.distillation.distill import Voice, distill
from compress.distillation.pseudo_labels import label
from compress.distillation.teacher_settings import OwnPast
from compress.distillation.unlabelled import with_unlabelled
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.log import FitLog
from compress.training.method import Method

if TYPE_CHECKING:
    from compress.distillation.stage import Distill


def teach(
    student: nn.Module,
    teacher: Sequence[Voice] | OwnPast,
    data: Data,
    task: Task,
    settings: Distill,
    context: Context,
    *,
    around: Callable[[Method], Method] | None = None,
) -> tuple[FitLog, dict[str, Any]]:
    """Train `student` in place; unlabelled examples of the data get pseudo labels, or are learnt from soft answers.

    Returns:
        What training did, and what was labelled (`examples`, `by_class`, `mean_confidence`; empty if nothing was).

    Raises:
        UsageError: pseudo labels are asked of the student's own past; as `label` and `distill` do.
        StageError: as `distill` does.
    """
    labelled: dict[str, Any] = {}
    if settings.pseudo_labels is not None:
        if isinstance(teacher, OwnPast):
            raise UsageError("pseudo_labels: need a teacher that is trained already")
        data, labelled = label(teacher, data, task, settings.pseudo_labels, settings.average, context)
    log = distill(
        student, teacher, with_unlabelled(data), task, settings, settings.losses, context, cache=settings.cache,
        average=settings.average, on_policy=settings.on_policy, around=around,
    )  # fmt: skip
    return log, labelled
