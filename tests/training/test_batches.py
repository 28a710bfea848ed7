from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.data.dataset import Batch, Data
from compress.errors import UsageError
from compress.training.batches import epoch_batches, load_batches, reader_count, share, step_count, to_torch


@pytest.mark.parametrize(("examples", "batch_size"), [(120, 32), (65, 64), (1, 64), (128, 64), (7, 1)])
def test_an_epoch_sees_every_example_once_in_equal_steps(examples: int, batch_size: int) -> None:
    batches = epoch_batches(examples, batch_size, seed=3, epoch=2)
    assert len(batches) == step_count(examples, batch_size)
    assert sorted(np.concatenate(batches)) == list(range(examples))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_order_follows_from_seed_and_epoch() -> None:
    first = np.concatenate(epoch_batches(50, 10, seed=0, epoch=0))
    assert np.array_equal(first, np.concatenate(epoch_batches(50, 10, seed=0, epoch=0)))
    assert not np.array_equal(first, np.concatenate(epoch_batches(50, 10, seed=0, epoch=1)))
    assert not np.array_equal(first, np.concatenate(epoch_batches(50, 10, seed=1, epoch=0)))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_same_global_batch(world_size: int) -> None:
    (batch,) = epoch_batches(10, 10, seed=0, epoch=0)
    parts = [share(batch, rank, world_size) for rank in range(world_size)]
    assert np.array_equal(np.concatenate(parts), batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_processes_than_examples_are_refused() -> None:
    with pytest.raises(UsageError, match="batch_size"):
        share(np.arange(1), 0, 2)


def test_arrays_become_tensors_without_a_copy() -> None:
    batch = Batch((np.ones((2, 3), np.float32),), np.array([0, 1]), np.array([4, 5]))
    found = to_torch(batch, torch.device("cpu"))
    assert found.inputs[0].data_ptr() == batch.inputs[0].ctypes.data
    assert found.targets.tolist() == [0, 1]
    assert found.indices.tolist() == [4, 5]


def test_read_only_arrays_are_copied_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    inputs = np.ones((2, 3), np.float32)
    inputs.flags.writeable = False
    found = to_torch(Batch((inputs,), np.array([0, 1]), np.array([4, 5])), torch.device("cpu"))
    found.inputs[0].add_(1)
    assert inputs[0, 0] == 1
    assert not recwarn.list


@pytest.mark.parametrize("readers", [0, 1, 3])
def test_batches_come_in_order_however_they_are_read(data: Data, readers: int) -> None:
    wanted = epoch_batches(len(data.train), 16, seed=0, epoch=0)
    found = list(load_batches(data, data.train, wanted, (0, 0), readers))
    assert all(np.array_equal(batch.indices, indices) for batch, indices in zip(found, wanted, strict=True))


def test_only_gpus_read_ahead() -> None:
    assert reader_count(torch.device("cpu"), 8) == 0
    assert reader_count(torch.device("cuda"), 8) == 4
