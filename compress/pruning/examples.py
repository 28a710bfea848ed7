"""The training examples that pruning looks at, and the device where it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.errors import UsageError
from compress.pruning.importance.score import LabelledBatch
from compress.stage import Context
from compress.training.batches import to_torch
from compress.training.device import limited_threads, training_device
from compress.training.memory_format import from_work, to_work
from compress.training.randomness import derived_seed, preserved_randomness

IMPORTANCE_BATCH = 8
"""Examples at a time for importance: few, because the gradients of a trained network cancel over many."""
STATISTICS_BATCH = 64
"""Examples at a time for batch-norm statistics."""
PRACTISED = 1024
"""Examples to train choices on and to judge them by."""
PRACTISED_BYTES = 2**28
"""What these may take."""
_REHEARSAL_BATCH = 4


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


def practice_batches(
    data: Data, batches: Sequence[LabelledBatch], context: Context, device: torch.device
) -> Sequence[LabelledBatch]:
    """Batches to train choices on for a moment: as many as memory allows, if these are more than `batches`."""
    (inputs, targets), *_ = batches
    each = sum(tensor.numel() * tensor.element_size() for tensor in inputs) // len(targets)
    count = min(PRACTISED, PRACTISED_BYTES // max(each, 1))
    if context.rehearsal or count <= len(batches) * len(targets):
        return batches
    return training_batches(data, count, len(targets), context, device)


@contextmanager
def at_work(module: nn.Module, context: Context) -> Iterator[torch.device]:
    """The module on the training device, in evaluation mode; back at home afterwards."""
    home = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    device = training_device(context)
    to_work(module, device).eval()
    try:
        with preserved_randomness(), limited_threads(context.threads):
            yield device
    finally:
        from_work(module, home)
