"""A network's outputs and metrics over a split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.data.dataset import Data, Split
from compress.errors import UsageError
from compress.stage import Context
from compress.tasks.task import Task
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
    batch_size: int = EVALUATION_BATCH,
    keep_mode: bool = False,
) -> Array:
    """The outputs for all examples of a split, in order, fp32, shape (examples, ...).

    With several processes each computes its share, and every one gets all outputs; all of them must call it.

    Args:
        module: evaluated on the context's device, where it stays.
        data: owns the split and knows how to make batches of it.
        split: one of the data's three.
        context: device, threads and processes; by default the module's own device and the current threads.
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
    starts = range(0, len(split), batch_size)
    own = np.array_split(np.array(starts), context.world_size)[context.rank]
    outputs = []
    with torch.no_grad(), limited_threads(context.threads), _evaluation_mode(module, keep_mode):
        for start in own:
            indices = np.arange(start, min(start + batch_size, len(split)))
            batch = to_torch(data.batch(split, indices), device)
            outputs.append(module(*batch.inputs).float().cpu().numpy())
    part = np.concatenate(outputs) if outputs else np.empty(0, np.float32)
    return gather_arrays(part, context.world_size)


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
    outputs = predict(module, data, split, context=context, keep_mode=keep_mode)
    metrics: dict[str, float] = task.metrics(outputs, targets_of(split))
    return metrics


def targets_of(split: Split) -> Array:
    """The targets of all examples of a split, in order."""
    return split.targets(np.arange(len(split)))


@contextmanager
def _evaluation_mode(module: nn.Module, keep_mode: bool) -> Iterator[None]:
    """`eval()` inside the block, and each submodule's own mode again after it."""
    if keep_mode:
        yield
        return
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training
