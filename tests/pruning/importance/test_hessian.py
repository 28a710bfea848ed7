from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from compress.pruning.importance.hessian import hessian


def test_half_the_sum_of_squared_gradient_times_squared_weight() -> None:
    weights, gradients = [torch.randn(4, 9), torch.randn(8, 3)], [torch.randn(4, 9), torch.randn(8, 3)]
    units = [torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])]
    found = hessian(weights, gradients, units, 4)
    for unit in range(4):
        parts = zip(weights, gradients, units, strict=True)
        pairs = [(w[u == unit].double().numpy(), g[u == unit].double().numpy()) for w, g, u in parts]
        assert found[unit].item() == pytest.approx(sum((g**2 * w**2).sum() / 2 for w, g in pairs), rel=1e-12)


def test_it_comes_to_the_loss_that_deletion_adds_at_a_minimum() -> None:
    """Logistic regression with independent inputs, labels drawn from the model itself: there Fisher is the Hessian.

    Weights are small, so that the change of the loss is of second order, and inputs have mean 0, so that the Hessian of
    one unit has no terms beside its diagonal to speak of.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60_000, 8, generator=generator, dtype=torch.float64)
    weight = torch.linspace(0.05, 0.4, 8, dtype=torch.float64)
    y = torch.bernoulli(torch.sigmoid(x @ weight), generator=generator)
    residual = torch.sigmoid(x @ weight) - y  # the gradient of an example is residual * x
    squares = (residual[:, None] * x).square().mean(0)

    def loss(w: torch.Tensor) -> torch.Tensor:
        # expected over the labels of the model, whose minimum is exactly at `weight`
        return functional.binary_cross_entropy_with_logits(x @ w, torch.sigmoid(x @ weight))

    found = hessian([weight[:, None]], [squares.sqrt()[:, None]], [torch.arange(8)], 8)
    for unit in range(8):
        without = weight.clone()
        without[unit] = 0
        assert found[unit].item() == pytest.approx((loss(without) - loss(weight)).item(), rel=0.06)
