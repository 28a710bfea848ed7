from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.distillation.losses.reverse_kl import reverse_kl


def probabilities(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powers = np.exp(logits / temperature)
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def two(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.random.default_rng(seed)
    return 3 * numbers.normal(size=(6, 10)), 3 * numbers.normal(size=(6, 10))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_its_definition(temperature: float) -> None:
    student, teacher = two(0)
    q, p = probabilities(student, temperature), probabilities(teacher, temperature)
    expected = temperature**2 * (q * np.log(q / p)).sum(1).mean()
    found = reverse_kl(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_its_gradient_is_that_of_the_definition() -> None:
    """T q (log(q / p) - KL(q || p)) for each logit, from the derivative of softmax by hand."""
    student, teacher = two(1)
    q, p = probabilities(student, 2.0), probabilities(teacher, 2.0)
    ratio = np.log(q / p)
    expected = 2.0 * q * (ratio - (q * ratio).sum(1, keepdims=True)) / len(student)
    logits = torch.from_numpy(student).requires_grad_()
    (gradient,) = torch.autograd.grad(reverse_kl(logits, torch.from_numpy(teacher), 2.0), logits)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_it_is_zero_where_both_agree() -> None:
    student, _ = two(2)
    assert reverse_kl(torch.from_numpy(student), torch.from_numpy(student + 5), 3.0).item() == pytest.approx(
        0, abs=1e-12
    )


def test_a_student_may_keep_to_one_of_the_teachers_classes_but_not_add_one() -> None:
    """One of two equally likely classes costs log 2; a class that the teacher never gives, its logit's distance."""
    teacher = torch.tensor([[0.0, 0.0, -50.0]])
    assert reverse_kl(torch.tensor([[99.0, 0.0, 0.0]]), teacher, 1.0).item() == pytest.approx(np.log(2), rel=1e-5)
    assert reverse_kl(torch.tensor([[0.0, 0.0, 99.0]]), teacher, 1.0).item() == pytest.approx(50 + np.log(2), rel=1e-5)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = reverse_kl(student, torch.tensor([[-1e4, 1e4]]), 1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 2e4
    assert torch.isfinite(gradient).all()
