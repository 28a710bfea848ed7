from __future__ import annotations

import pytest
import torch

from compress.pruning.importance.taylor import taylor


def test_sum_of_gradient_times_weight_before_its_size() -> None:
    weights = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0], [6.0]])]
    gradients = [torch.tensor([[1.0, -1.0], [0.0, 2.0]]), torch.tensor([[0.1], [-2.0]])]
    units = [torch.tensor([0, 1]), torch.tensor([0, 1])]
    assert taylor(weights, gradients, units, 2).tolist() == pytest.approx([abs(1 - 2 + 0.5), abs(8 - 12)])


def test_exact_where_the_loss_is_linear_in_the_weights() -> None:
    weight, x = torch.randn(4, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    outside = torch.randn(4, dtype=torch.float64)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return outside @ (w @ x)

    gradient = torch.func.grad(loss)(weight)
    found = taylor([weight], [gradient], [torch.arange(4)], 4)
    for unit in range(4):
        without = weight.clone()
        without[unit] = 0
        assert found[unit].item() == pytest.approx((loss(without) - loss(weight)).abs().item(), rel=1e-9)
