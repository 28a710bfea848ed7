"""Plain training: a network learns its task from the labels."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from compress.data.dataset import Data
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.fit import fit
from compress.training.log import FitLog
from compress.training.method import Method, Supervised
from compress.training.settings import Recipe


def train(
    module: nn.Module,
    data: Data,
    task: Task,
    recipe: Recipe,
    context: Context | None = None,
    *,
    label_smoothing: float = 0.0,
    around: Callable[[Method], Method] | None = None,
) -> FitLog:
    """Train `module` in place on the task's own loss, or on cross-entropy with smoothed labels.

    `around` gives the method to train by from the plain one; None: the plain one.

    Raises:
        UsageError: labels are to be smoothed where the task has none; and as `fit` does.
        StageError: as `fit` does.
    """
    if label_smoothing and task.distillation != "classes":
        raise UsageError(f"label_smoothing needs classes, and the task {task.name} has none: leave it out")
    method = Supervised(task, label_smoothing)
    return fit(module, data, task, around(method) if around else method, recipe, context=context)
