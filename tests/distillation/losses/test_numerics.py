from __future__ import annotations

import numpy as np
import torch

from compress.distillation.losses.numerics import inner_products, unit, wide


def test_unit_vectors_have_length_one_and_zeros_stay_zero_without_a_gradient() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    found = unit(vectors)
    (gradient,) = torch.autograd.grad(found[:, 1].sum(), vectors)
    np.testing.assert_allclose(found.detach().numpy(), np.array([[0.6, 0.8], [0, 0]]), rtol=1e-15)
    expected = np.array([[-0.6 * 0.8 / 5, 0.6 * 0.6 / 5], [0, 0]])
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-14)


def test_half_precision_is_widened_and_double_stays() -> None:
    assert torch.isfinite(wide(torch.full((2,), 300.0, dtype=torch.float16)).square()).all()
    assert unit(torch.ones(2, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert unit(torch.ones(2, 2, dtype=torch.float64)).dtype == torch.float64


def test_inner_products_keep_their_precision_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(5, 16, generator=generator), torch.randn(4, 16, generator=generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = inner_products(first, second)
    np.testing.assert_allclose(found.numpy(), first.double().numpy() @ second.double().numpy().T, rtol=1e-5, atol=1e-5)
