from __future__ import annotations

import numpy as np
import torch

from compress.pruning.importance.random import random


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others() -> None:
    one, again, other = (torch.cat(random([100, 50], seed)) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len(set(one.tolist())) == 150


def test_torchs_own_generator_is_neither_read_nor_moved() -> None:
    first = random([4], 0)[0]
    torch.manual_seed(9)
    state = torch.random.get_rng_state()
    assert torch.equal(random([4], 0)[0], first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_numbers_are_even_between_0_and_1() -> None:
    sorted_numbers = np.sort(random([10_000], 1)[0].numpy())
    # the Kolmogorov-Smirnov distance from the uniform distribution, under its 0.1 % quantile
    assert np.abs(sorted_numbers - (np.arange(10_000) + 0.5) / 10_000).max() < 1.95 / np.sqrt(10_000)
