from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.pruning.importance.lamp import lamp


def test_squared_norm_over_those_that_are_not_smaller() -> None:
    norms = torch.rand(12, dtype=torch.float64)
    squares = norms.numpy() ** 2
    expected = [square / squares[squares >= square].sum() for square in squares]
    assert lamp(norms).numpy() == pytest.approx(np.array(expected), rel=1e-12)


def test_the_order_within_a_group_is_that_of_the_norms_and_the_largest_scores_one() -> None:
    norms = torch.tensor([3.0, 0.5, 2.0, 2.0, 7.0])
    scores = lamp(norms)
    assert scores.argsort().tolist() == [1, 2, 3, 0, 4]
    assert scores.max() == 1


def test_scale_does_not_matter() -> None:
    norms = torch.rand(6)
    assert torch.allclose(lamp(norms), lamp(100 * norms))


def test_what_is_zero_is_worth_nothing() -> None:
    assert lamp(torch.tensor([0.0, 1.0, 0.0])).tolist() == [0, 1, 0]
    assert lamp(torch.zeros(3)).tolist() == [0, 0, 0]
