from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.distillation.losses.kl import kl


def probabilities(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powers = np.exp(logits / temperature)
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def by_hand(student: NDArray[np.float64], teacher: NDArray[np.float64], temperature: float) -> float:
    """T^2 sum p log(p / q), mean over rows, straight from the definition."""
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    return float(temperature**2 * (p * np.log(p / q)).sum(1).mean())


def two(seed: int, rows: int = 6, classes: int = 10) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.random.default_rng(seed)
    return 3 * numbers.normal(size=(rows, classes)), 3 * numbers.normal(size=(rows, classes))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_it_is_its_definition(temperature: float) -> None:
    student, teacher = two(0)
    found = kl(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert found.item() == pytest.approx(by_hand(student, teacher, temperature), rel=1e-12)


def test_it_is_the_mean_over_rows_and_not_over_classes() -> None:
    student, teacher = (torch.from_numpy(logits) for logits in two(1))
    each = torch.stack([kl(student[i : i + 1], teacher[i : i + 1], 2.0) for i in range(len(student))])
    torch.testing.assert_close(kl(student, teacher, 2.0), each.mean())


def test_its_gradient_is_t_times_the_difference_of_probabilities() -> None:
    student, teacher = two(2)
    logits = torch.from_numpy(student).requires_grad_()
    (gradient,) = torch.autograd.grad(kl(logits, torch.from_numpy(teacher), 4.0), logits)
    expected = 4.0 * (probabilities(student, 4.0) - probabilities(teacher, 4.0)) / len(student)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-10, atol=1e-14)


def test_it_is_zero_where_both_agree_and_positive_elsewhere() -> None:
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(1))
    assert kl(logits, logits + 5, 3.0).item() == pytest.approx(0, abs=1e-5)
    assert kl(logits, logits.flip(1), 3.0).item() > 0


def test_it_is_the_teachers_divergence_from_the_student_and_not_the_reverse() -> None:
    certain, unsure = torch.tensor([[9.0, 0.0]]), torch.zeros(1, 2)
    assert kl(unsure, certain, 1.0).item() == pytest.approx(0.692, abs=2e-3)
    assert kl(certain, unsure, 1.0).item() == pytest.approx(3.807, abs=2e-3)


def test_at_high_temperature_the_gradient_tends_to_that_of_logit_matching() -> None:
    """Hinton et al. 2015, eq. 4: T^2 dC/dz -> (z - v) / classes for zero-mean logits; the error falls as 1/T."""
    student, teacher = (logits - logits.mean(1, keepdims=True) for logits in two(3, rows=1))
    logits = torch.from_numpy(student).requires_grad_()
    errors = []
    for temperature in (1e3, 1e4):
        (gradient,) = torch.autograd.grad(kl(logits, torch.from_numpy(teacher), temperature), logits)
        errors.append(np.abs(gradient.numpy() - (student - teacher) / 10).max())
    assert errors[0] < 5e-3
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.05)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_good_as_its_inputs(kind: torch.dtype) -> None:
    student, teacher = (torch.from_numpy(logits).to(kind) for logits in two(4))
    expected = by_hand(student.double().numpy(), teacher.double().numpy(), 4.0)
    assert kl(student, teacher, 4.0).item() == pytest.approx(expected, rel=1e-5)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = kl(student, torch.tensor([[-1e4, 1e4]]), 1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 2e4
    assert gradient.tolist() == [[1.0, -1.0]]
