"""A network's outputs and metrics over a split."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.data.dataset import Data, Split
from compress.errors import UsageError
from compress.modes import evaluating
from compress.stage import Context
from compress.tasks.batching import evaluation_batches, in_order
from compress.tasks.task import Task
from compress.tasks.tokens import joined, mean_nll
from compress.training.batches import to_torch
from compress.training.device import limited_threads, training_device
from compress.training.processes import gather_arrays

EVALUATION_BATCH = 128
Array = np.ndarray[Any, Any]


def predict(
    module: nn.Module,
    data: Data,
    split: Split,
    *,
    context: Context | None = None,
    task: Task | None = None,
    batch_size: int = EVALUATION_BATCH,
    keep_mode: bool = False,
) -> Array:
    """The outputs for all examples of a split, in order, fp32, shape (examples, ...); of a task, what it condenses.

    Where outputs are for tokens, those of shorter texts end in zeros. With several processes each computes its share,
    and every one gets all outputs; all of them must call it.

    Args:
        module: evaluated on the context's device, where it stays.
        data: owns the split and knows how to make batches of it.
        split: one of the data's.
        context: device, threads and processes; by default the module's own device and the current threads.
        task: condenses each batch's outputs; None: they are kept as they are.
        batch_size: examples at a time.
        keep_mode: whether the caller has put the module into evaluation mode (exported graphs refuse `eval()`).

    Raises:
        UsageError: the split is empty.
    """
    if not len(split):
        raise UsageError("there is nothing to evaluate: the split is empty")
    if context is None:
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        context = Context(device=str(device), threads=torch.get_num_threads())
    device = training_device(context)
    module.to(device)
    # Shares are whole batches, so that an example meets the same neighbours whatever the number of processes.
    batches = evaluation_batches(data, split, batch_size, task)
    own = np.array_split(np.arange(len(batches)), context.world_size)[context.rank]
    parts = []
    mode = nullcontext() if keep_mode else evaluating(module)
    with torch.no_grad(), limited_threads(context.threads), mode:
        for number in own:
            batch = to_torch(data.batch(split, batches[number]), device)
            outputs = module(*batch.inputs)
            parts.append(outputs.float().cpu().numpy() if task is None else task.condense(outputs, batch.targets))
    return in_order(_gathered(parts, context.world_size), batches)


def _gathered(parts: list[Array], world_size: int) -> Array:
    """The parts of all ranks as one array, padded to the longest of all where they are for tokens."""
    part = joined(parts) if parts else np.empty(0, np.float32)
    if world_size == 1:
        return part
    longest = int(gather_arrays(np.array([part.shape[1] if part.ndim > 2 else 0]), world_size).max())
    if part.ndim == 3 and part.shape[1] < longest:
        part = np.pad(part, ((0, 0), (0, longest - part.shape[1]), (0, 0)))
    return gather_arrays(part, world_size)


def evaluate(
    module: nn.Module,
    data: Data,
    task: Task,
    split: Split,
    *,
    context: Context | None = None,
    keep_mode: bool = False,
) -> dict[str, float]:
    """The task's metrics over a split, the primary one first; arguments as for `predict`."""
    answers = predict(module, data, split, context=context, task=task, keep_mode=keep_mode)
    metrics: dict[str, float] = task.metrics(answers, targets_of(split))
    return metrics


def mean_loss(task: Task, answers: Array, targets: Array) -> float:
    """The task's loss over all examples, from what `predict` gave for the task."""
    if task.class_axis == -1:
        return mean_nll(answers)
    return float(task.loss(torch.from_numpy(answers), torch.from_numpy(targets)))


def targets_of(split: Split) -> Array:
    """The targets of all examples of a split, in order."""
    return split.targets(np.arange(len(split)))
