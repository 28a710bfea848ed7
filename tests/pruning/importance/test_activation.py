from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.pruning.importance.activation import activation


def test_size_over_that_of_the_place_and_the_mean_over_places() -> None:
    sizes = [torch.rand(4), 100 * torch.rand(8)]
    units = [torch.arange(4), torch.arange(4).repeat(2)]
    one, other = (size.numpy().astype(np.float64) for size in sizes)
    expected = (one / one.mean() + (other / other.mean()).reshape(2, 4).mean(0)) / 2
    assert activation(sizes, units, 4).numpy() == pytest.approx(expected, rel=1e-6)


def test_what_is_silent_is_worth_nothing() -> None:
    assert activation([torch.tensor([0.0, 2.0])], [torch.arange(2)], 2).tolist() == [0.0, 2.0]
    assert activation([torch.zeros(3)], [torch.arange(3)], 3).tolist() == [0.0, 0.0, 0.0]
