"""A task's settings -> the task."""

from __future__ import annotations

from collections.abc import Callable

from compress.tasks.image_classification import ImageClassification
from compress.tasks.language import CausalLM, MaskedLM, SequenceToSequence
from compress.tasks.multi_label_classification import MultiLabelClassification
from compress.tasks.python import open_python_task
from compress.tasks.regression import Regression
from compress.tasks.settings import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    MASKED_LM,
    MULTI_LABEL_CLASSIFICATION,
    REGRESSION,
    SEQUENCE_TO_SEQUENCE,
    TEXT_CLASSIFICATION,
    TaskSettings,
)
from compress.tasks.task import Task
from compress.tasks.text_classification import TextClassification

TASKS: dict[str, Callable[[TaskSettings], Task]] = {
    IMAGE_CLASSIFICATION: lambda settings: ImageClassification(),
    REGRESSION: lambda settings: Regression(settings.arguments["loss"]),
    TEXT_CLASSIFICATION: lambda settings: TextClassification(settings.arguments["metric"]),
    MULTI_LABEL_CLASSIFICATION: lambda settings: MultiLabelClassification(),
    CAUSAL_LM: lambda settings: CausalLM(),
    MASKED_LM: lambda settings: MaskedLM(settings.arguments["share"]),
    SEQUENCE_TO_SEQUENCE: lambda settings: SequenceToSequence(),
}


def open_task(settings: TaskSettings) -> Task:
    """The task that `settings` name.

    Raises:
        UsageError: a task of the user's own cannot be loaded.
    """
    return TASKS.get(settings.name, open_python_task)(settings)
