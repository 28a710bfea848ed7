"""Randomness as a function of seed and place, so that a resumed run draws what an undisturbed one would.

No random state is carried from step to step: each step seeds the generators anew. Checkpoints need not hold any, and a
rank's draws do not depend on what was drawn before.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(seed: int, *place: int | str) -> int:
    """A 63-bit seed for one place (such as a step and a rank) under a run's seed."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def seed_all(seed: int, device: torch.device) -> None:
    """Seed the global generators of torch (on the CPU and on `device`), NumPy and Python.

    `torch.manual_seed` would do so for every kind of device, also absent ones, at 0.7 ms a call: much, at every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


@contextmanager
def preserved_randomness() -> Iterator[None]:
    """Leave the global generators as they were found."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
