"""The whole of pruning on a data set: prune, re-estimate, and train what is left."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.distillation.distill import distill
from compress.distillation.settings import DistillationRecipe
from compress.errors import UsageError
from compress.pruning.batch_norm import reestimate
from compress.pruning.importance.score import LabelledBatch
from compress.pruning.prune import PruneLog, prune_module
from compress.pruning.settings import Pruning
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.batches import to_torch
from compress.training.device import limited_threads, training_device
from compress.training.log import FitLog
from compress.training.processes import broadcast_object
from compress.training.randomness import derived_seed, preserved_randomness

IMPORTANCE_BATCH = 8
"""Examples at a time for importance: few, because the gradients of a trained network cancel over many."""
STATISTICS_BATCH = 64
"""Examples at a time for batch-norm statistics."""
_REHEARSAL_BATCH = 4


def prune_and_recover(
    module: nn.Module,
    data: Data,
    task: Task,
    settings: Pruning,
    recipe: DistillationRecipe | None = None,
    context: Context | None = None,
) -> tuple[PruneLog, FitLog | None]:
    """Prune `module` in place by training examples, then distil from the network as it was; test data is never read.

    Args:
        module: Ends in evaluation mode, on its own device.
        data: Importance and batch-norm statistics come from `settings.examples` of its training split.
        task: Its loss is what `taylor` importance is about.
        settings: What to remove and how much.
        recipe: How to train afterwards; None for not at all.
        context: Seed, device, threads, processes; two batches of everything in a rehearsal.

    Raises:
        UsageError: as `prune_module` and `distill` do; or there are no training examples.
        StageError: as they do.
    """
    context = context or Context()
    teacher = copy.deepcopy(module) if recipe is not None else None
    home = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    device = training_device(context)
    module.to(device).eval()
    with preserved_randomness(), limited_threads(context.threads):
        batches = training_batches(data, settings.examples, IMPORTANCE_BATCH, context, device)
        log = prune_module(
            module,
            [tensor[:2] for tensor in batches[0][0]],
            settings,
            batches=batches,
            loss=task.loss,
            seed=context.seed,
            agree=broadcast_object,
        )
        statistics = training_batches(data, settings.examples, STATISTICS_BATCH, context, device)
        reestimate(module, (inputs for inputs, _ in statistics))
    module.to(home)
    context.progress.say(describe(log))
    return log, recover(module, teacher, data, task, recipe, context)


def recover(
    module: nn.Module,
    teacher: nn.Module | None,
    data: Data,
    task: Task,
    recipe: DistillationRecipe | None,
    context: Context | None = None,
) -> FitLog | None:
    """Train the pruned `module` in place to answer like `teacher`, the network before pruning; None: not at all.

    Raises:
        UsageError: as `distill` does.
        StageError: as `distill` does.
    """
    if recipe is None or teacher is None:
        return None
    return distill(module, teacher, data, task, recipe, recipe.losses, context)


def training_batches(
    data: Data, examples: int, batch_size: int, context: Context, device: torch.device
) -> list[LabelledBatch]:
    """Batches of one size, without augmentation, of so many training examples drawn by the seed.

    Raises:
        UsageError: there are no training examples.
    """
    available = len(data.train)
    if not available:
        raise UsageError("the training split is empty: pruning needs examples to see what matters")
    size = min(_REHEARSAL_BATCH if context.rehearsal else batch_size, examples, available)
    count = min(examples, available, 2 * size if context.rehearsal else available) // size
    order = np.random.default_rng(derived_seed(context.seed, "prune")).permutation(available)
    found: list[LabelledBatch] = []
    for start in range(0, count * size, size):
        batch = to_torch(data.batch(data.train, np.sort(order[start : start + size])), device)
        inputs: tuple[Tensor, ...] = batch.inputs
        found.append((inputs, batch.targets))
    return found


def describe(log: PruneLog) -> str:
    """One line for the user."""
    parts = [f"{name} {log.before[name]:,} -> {log.after[name]:,}" for name in log.before]
    return f"pruned to {log.reached:.1%} of the {log.measure} (asked {log.asked:.1%}): {', '.join(parts)}"
