from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.pruning.importance.magnitude import magnitude


@pytest.mark.parametrize("norm", [1, 2])
def test_norm_of_all_that_a_unit_has(norm: int) -> None:
    weights = [torch.randn(4, 9), torch.randn(8, 3)]
    units = [torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])]
    found = magnitude(weights, units, 4, norm)
    for unit in range(4):
        numbers = np.concatenate([w[u == unit].numpy().ravel() for w, u in zip(weights, units, strict=True)])
        assert found[unit].item() == pytest.approx(np.linalg.norm(numbers.astype(np.float64), norm), rel=1e-12)


def test_zero_weights_are_worth_nothing() -> None:
    found = magnitude([torch.tensor([[0.0, 0.0], [0.0, 1e-20]])], [torch.tensor([0, 1])], 2, 2)
    assert found[0] == 0
    assert found[1] > 0


def test_scale() -> None:
    weights, units = [torch.randn(4, 5)], [torch.arange(4)]
    assert torch.allclose(magnitude([w * -3 for w in weights], units, 4, 1), 3 * magnitude(weights, units, 4, 1))
