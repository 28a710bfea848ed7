from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.distillation.losses.kl import kl
from compress.distillation.losses.standardize import standardize


def test_it_is_its_definition() -> None:
    logits = 2 + 3 * np.random.default_rng(0).normal(size=(6, 10))
    centered = logits - logits.mean(1, keepdims=True)
    expected = centered / np.sqrt((centered**2).sum(1, keepdims=True) / 9)
    np.testing.assert_allclose(standardize(torch.from_numpy(logits)).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(("kind", "near"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_shift_and_positive_scale_of_a_row_do_not_matter(kind: torch.dtype, near: float) -> None:
    numbers = np.random.default_rng(1)
    logits = torch.from_numpy(numbers.normal(size=(6, 10))).to(kind)
    scale, shift = (
        torch.from_numpy(x).to(kind) for x in (numbers.uniform(0.5, 50, (6, 1)), numbers.normal(size=(6, 1)))
    )
    torch.testing.assert_close(standardize(scale * logits + shift), standardize(logits), rtol=near, atol=near)
    torch.testing.assert_close(standardize(-logits), -standardize(logits))
    assert kl(standardize(scale * logits), standardize(logits), 2.0).item() == pytest.approx(0, abs=1e-6)
    assert kl(scale * logits, logits, 2.0).item() > 0.1


def test_equal_logits_become_zeros_with_finite_gradients() -> None:
    logits = torch.full((2, 5), 3.0, requires_grad=True)
    found = standardize(logits)
    assert not found.any()
    (gradient,) = torch.autograd.grad(found[:, 0].sum(), logits)
    assert torch.isfinite(gradient).all()


def test_its_gradient_is_that_of_the_definition() -> None:
    logits = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 4))).requires_grad_()
    assert torch.autograd.gradcheck(standardize, logits)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(kind: torch.dtype) -> None:
    logits = (200 * torch.randn(4, 10, generator=torch.Generator().manual_seed(3))).to(kind)
    torch.testing.assert_close(standardize(logits), standardize(logits.float()), rtol=0, atol=0)


def test_extreme_logits_stay_finite() -> None:
    torch.testing.assert_close(standardize(torch.tensor([[1e4, -1e4]])), torch.tensor([[0.5, -0.5]]) * 2**0.5)
