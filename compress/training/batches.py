"""Which examples make a step, and how they get to the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from compress.data.dataset import Batch, Data, Split
from compress.errors import UsageError
from compress.training.method import TorchBatch
from compress.training.randomness import derived_seed

Indices = np.ndarray[Any, np.dtype[np.int64]]


def step_count(examples: int, batch_size: int) -> int:
    """Steps of one epoch."""
    return -(-examples // batch_size)


def epoch_batches(examples: int, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """The examples of each step of an epoch over all processes: a permutation from (seed, epoch), in equal parts.

    Sizes differ by at most one and none is over `batch_size`, so that no epoch ends in a step of a few stray examples,
    whose noisy gradient and batch statistics would count as much as any other's.
    """
    order = np.random.default_rng(derived_seed(seed, "order", epoch)).permutation(examples)
    return np.array_split(order, step_count(examples, batch_size))


def share(batch: Indices, rank: int, world_size: int) -> Indices:
    """One process's part of a step's examples.

    Raises:
        UsageError: there are fewer examples than processes.
    """
    if len(batch) < world_size:
        message = f"a step of {len(batch)} examples cannot be shared by {world_size} processes"
        raise UsageError(f"{message}: raise `batch_size`, or use fewer processes")
    return np.array_split(batch, world_size)[rank]


def to_torch(batch: Batch, device: torch.device) -> TorchBatch:
    """The arrays as tensors on the device: the same memory on the CPU, an overlapping copy to a GPU."""
    return TorchBatch(
        inputs=tuple(_tensor(array, device) for array in batch.inputs),
        targets=_tensor(batch.targets, device),
        indices=_tensor(batch.indices, torch.device("cpu")),
    )


def _tensor(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    if not array.flags.writeable or not array.flags.c_contiguous:
        array = array.copy()
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def load_batches(
    data: Data, split: Split, batches: Sequence[Indices], augment: tuple[int, int] | None, readers: int
) -> Iterator[Batch]:
    """The batches with those examples, in order; with `readers` over 0 read ahead in so many threads."""
    if not readers:
        for indices in batches:
            yield data.batch(split, indices, augment=augment)
        return
    with ThreadPoolExecutor(readers, thread_name_prefix="compress-data") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for indices in batches:
                waiting.append(pool.submit(data.batch, split, indices, augment))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def reader_count(device: torch.device, threads: int) -> int:
    """Threads that prepare batches ahead: none on the CPU, whose cores are busy with the step itself."""
    return 0 if device.type == "cpu" else min(4, threads)
