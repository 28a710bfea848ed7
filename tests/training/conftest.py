"""A learnable problem small enough for a step to take a millisecond."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from compress.data.dataset import ArraySplit, Data
from compress.tasks.open import open_task
from compress.tasks.settings import TaskSettings
from compress.tasks.task import Task


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blobs(examples: int, seed: int) -> ArraySplit:
    """Three classes of 1x6x6 images: a bright column at the left, in the middle or at the right, under noise."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, examples)
    images = generator.normal(0, 0.7, (examples, 1, 6, 6)).astype(np.float32)
    images[np.arange(examples), 0, :, 2 * targets] += 1.0
    return ArraySplit(images, targets.astype(np.int64))


@pytest.fixture
def data() -> Data:
    return Data(blobs(120, 0), blobs(60, 1), blobs(60, 2), fingerprint="blobs")


@pytest.fixture
def task() -> Task:
    return open_task(TaskSettings())


@pytest.fixture
def make_network() -> Callable[..., nn.Sequential]:
    def make(width: int = 4, seed: int = 0, dropout: float = 0.2) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(1, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Flatten(),
                nn.Linear(36 * width, 3),
            )

    return make
