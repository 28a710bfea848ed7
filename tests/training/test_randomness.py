from __future__ import annotations

import random

import numpy as np
import torch

from compress.training.randomness import derived_seed, preserved_randomness, seed_all

CPU = torch.device("cpu")


def test_places_have_seeds_of_their_own() -> None:
    seeds = {derived_seed(seed, "step", step, rank) for seed in range(5) for step in range(50) for rank in range(4)}
    assert len(seeds) == 5 * 50 * 4
    assert derived_seed(0, "step", 1, 2) == derived_seed(0, "step", 1, 2)
    assert all(0 <= seed < 2**63 for seed in seeds)


def draws() -> tuple[float, float, float]:
    return torch.rand(1).item(), float(np.random.rand()), random.random()


def test_the_same_seed_gives_the_same_draws() -> None:
    with preserved_randomness():
        seed_all(5, CPU)
        first = draws()
        seed_all(5, CPU)
        assert draws() == first


def test_global_generators_are_left_as_they_were() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = draws()
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    with preserved_randomness():
        seed_all(99, CPU)
        draws()
    assert draws() == expected
