"""A teacher labels the data's unlabelled examples, as far as it is sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from compress.data.dataset import Data
from compress.distillation.distill import Voice
from compress.distillation.ensemble import averaged, combined
from compress.distillation.teacher_settings import Average, PseudoLabels
from compress.distillation.unlabelled import pseudo_labelled
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.evaluate import predict


def label(
    voices: Sequence[Voice],
    data: Data,
    task: Task,
    settings: PseudoLabels,
    average: Average | None,
    context: Context,
) -> tuple[Data, dict[str, Any]]:
    """The data with pseudo-labelled examples behind the training examples, and what was chosen, for the record.

    The teachers see the examples without augmentation. In a rehearsal the threshold is 0: nobody is sure yet.

    Raises:
        UsageError: there are no unlabelled examples, the task has no classes, or the teachers are sure of none.
    """
    if data.unlabelled is None:
        raise UsageError(
            "pseudo_labels: the data have no unlabelled examples: give the source an `unlabelled:` split, or hide the "
            "labels of a share of the training examples with `split: {unlabelled: 0.9}`"
        )
    if task.distillation != "classes" or task.class_axis != 1:
        raise UsageError(f"pseudo_labels: the task {task.name} has no class for each example")
    if context.rehearsal:
        data, settings = data.head(8), settings.model_copy(update={"threshold": 0.0})
    split = data.unlabelled
    assert split is not None
    with context.progress.task("labelling unlabelled examples", None):
        answers = [torch.from_numpy(predict(voice.module, data, split, context=context)) for voice in voices]
    weights = torch.tensor([voice.weight for voice in voices])
    shares = (weights / weights.sum())[:, None].expand(-1, len(split))
    probabilities = combined(answers, shares, averaged(average, task)).softmax(1).numpy()
    found, log = pseudo_labelled(data, probabilities, settings, context.seed)
    context.progress.say(f"pseudo labels: {log['examples']} of {len(split)} examples")
    return found, log
