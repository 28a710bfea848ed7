"""A task's settings -> the task."""

from __future__ import annotations

from collections.abc import Callable

from compress.tasks.image_classification import ImageClassification
from compress.tasks.python import open_python_task
from compress.tasks.regression import Regression
from compress.tasks.settings import IMAGE_CLASSIFICATION, REGRESSION, TaskSettings
from compress.tasks.task import Task

TASKS: dict[str, Callable[[TaskSettings], Task]] = {
    IMAGE_CLASSIFICATION: lambda settings: ImageClassification(),
    REGRESSION: lambda settings: Regression(settings.arguments["loss"]),
}


def open_task(settings: TaskSettings) -> Task:
    """The task that `settings` name.

    Raises:
        UsageError: a task of the user's own cannot be loaded.
    """
    return TASKS.get(settings.name, open_python_task)(settings)
