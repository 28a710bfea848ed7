"""A teacher's answers to the training examples: computed at every step, or once for all epochs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.errors import UsageError
from compress.stage import Context
from compress.training.device import training_device
from compress.training.evaluate import predict
from compress.training.method import TorchBatch

_LARGEST_CACHE_BYTES = 256 * 2**20


class Teacher:
    """Answers batches of the training split. Its network is in evaluation mode, gets no gradients, never changes."""

    def __init__(self, module: nn.Module, cached: Tensor | None = None) -> None:
        self.module = module.eval()
        self.cached = cached

    def __call__(self, batch: TorchBatch) -> Tensor:
        """The teacher's outputs for a batch, without gradients."""
        with torch.no_grad():
            if self.cached is not None:
                return self.cached[batch.indices.to(self.cached.device)]
            outputs: Tensor = self.module(*batch.inputs)
            return outputs


def open_teacher(module: nn.Module, data: Data, context: Context, *, cache: bool = True) -> Teacher:
    """A teacher on the training device, with its answers to the whole training split if these stay the same.

    They do where examples are not augmented; then one pass replaces one per epoch. Answers over 256 MiB are not kept.
    """
    device = training_device(context)
    module.to(device).eval()
    if (
        not cache
        or context.rehearsal
        or data.augmentation
        or _answer_bytes(module, data, device) > _LARGEST_CACHE_BYTES
    ):
        return Teacher(module)
    with context.progress.task("teacher", None):
        answers = predict(module, data, data.train, context=context)
    return Teacher(module, torch.from_numpy(answers).to(device))


def check_answers(student: Tensor, teacher: Tensor) -> None:
    """UsageError unless both answer in the same shape."""
    if student.shape != teacher.shape:
        shapes = f"{tuple(teacher.shape[1:])} per example, the student's {tuple(student.shape[1:])}"
        raise UsageError(f"the teacher's output has shape {shapes}: they must answer the same question")


def _answer_bytes(module: nn.Module, data: Data, device: torch.device) -> int:
    import numpy as np

    one = data.batch(data.train, np.arange(1))
    with torch.no_grad():
        outputs = module(*(torch.from_numpy(array).to(device) for array in one.inputs))
    numbers: int = math.prod(outputs.shape[1:]) * len(data.train)
    return 4 * numbers
