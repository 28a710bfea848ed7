"""Plain training: a network learns its task from the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from compress.data.dataset import Data
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.domains import class_numbers_of, within
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
    classes: Sequence[str | int] | None = None,
    around: Callable[[Method], Method] | None = None,
) -> FitLog:
    """Train `module` in place on the task's own loss, or on cross-entropy with smoothed labels.

    Args:
        module: ends in evaluation mode with the weights that the recipe keeps.
        data: examples and their targets.
        task: gives the loss and the validation metric.
        recipe: how long and how fast.
        context: seed, device, threads, processes, checkpoints.
        label_smoothing: share of each label spread over all classes.
        classes: names or numbers of those whose examples alone are trained and chosen by; None: all.
        around: gives the method to train by from the plain one; None: the plain one.

    Raises:
        UsageError: labels are to be smoothed where the task has none; there are no such classes; and as `fit` does.
        StageError: as `fit` does.
    """
    if label_smoothing and task.distillation != "classes":
        raise UsageError(f"label_smoothing needs classes, and the task {task.name} has none: leave it out")
    data = within(data, class_numbers_of(classes, data.labels, "classes"))
    method = Supervised(task, label_smoothing)
    return fit(module, data, task, around(method) if around else method, recipe, context=context)
