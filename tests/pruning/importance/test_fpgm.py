from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.pruning.importance.fpgm import fpgm


def _distances(rows: np.ndarray) -> np.ndarray:
    return np.array([sum(np.sqrt(((row - other) ** 2).sum()) for other in rows) for row in rows])


def test_sum_of_distances_over_its_mean_and_the_mean_over_layers() -> None:
    filters = [torch.randn(5, 9), 10 * torch.randn(10, 3)]
    units = [torch.arange(5), torch.arange(5).repeat_interleave(2)]
    found = fpgm(filters, units, 5)
    one, other = (_distances(layer.numpy().astype(np.float64)) for layer in filters)
    expected = (one / one.mean() + (other / other.mean()).reshape(5, 2).mean(1)) / 2
    assert found.numpy() == pytest.approx(expected, rel=1e-6)


def test_the_filter_at_the_geometric_median_goes_first_though_it_is_large() -> None:
    corners = torch.tensor([[9.0, 9.0], [11.0, 9.0], [9.0, 11.0], [11.0, 11.0], [10.0, 10.0], [0.0, 0.0]])
    assert fpgm([corners], [torch.arange(6)], 6).argmin() == 4


def test_filters_that_are_all_the_same_are_worth_nothing() -> None:
    assert fpgm([torch.ones(3, 4)], [torch.arange(3)], 3).tolist() == [0, 0, 0]
