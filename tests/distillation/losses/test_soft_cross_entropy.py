from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.distillation.losses.kl import kl
from compress.distillation.losses.soft_cross_entropy import soft_cross_entropy


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
    expected = -(probabilities(teacher, temperature) * np.log(probabilities(student, temperature))).sum(1).mean()
    found = soft_cross_entropy(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert found.item() == pytest.approx(temperature**2 * expected, rel=1e-12)


def test_it_exceeds_kl_by_the_teachers_entropy_and_has_its_gradient() -> None:
    student, teacher = two(1)
    logits, answers = torch.from_numpy(student).requires_grad_(), torch.from_numpy(teacher)
    found, divergence = soft_cross_entropy(logits, answers, 3.0), kl(logits, answers, 3.0)
    p = probabilities(teacher, 3.0)
    assert (found - divergence).item() == pytest.approx(9 * -(p * np.log(p)).sum(1).mean(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(divergence, logits))


def test_a_certain_teacher_makes_it_the_cross_entropy_of_labels() -> None:
    student, _ = two(2)
    targets = np.array([0, 1, 2, 3, 4, 9])
    expected = -np.log(probabilities(student, 1.0)[np.arange(6), targets]).mean()
    certain = torch.from_numpy(1e4 * np.eye(10)[targets])
    assert soft_cross_entropy(torch.from_numpy(student), certain, 1.0).item() == pytest.approx(expected, rel=1e-12)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = soft_cross_entropy(student, torch.tensor([[-1e4, 1e4]]), 1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 2e4
    assert gradient.tolist() == [[1.0, -1.0]]
