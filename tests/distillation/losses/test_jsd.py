from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.distillation.losses.jsd import generalized_jsd


def probabilities(logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    powers = np.exp(logits / temperature)
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    return float((p * np.log(p / q)).sum(1).mean())


def two(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.random.default_rng(seed)
    return 3 * numbers.normal(size=(6, 10)), 3 * numbers.normal(size=(6, 10))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("beta", [0.1, 0.5, 0.8])
def test_it_is_its_definition(beta: float, temperature: float) -> None:
    student, teacher = two(0)
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    mixture = beta * p + (1 - beta) * q
    expected = beta * divergence(p, mixture) + (1 - beta) * divergence(q, mixture)
    found = generalized_jsd(torch.from_numpy(student), torch.from_numpy(teacher), beta, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_its_gradient_is_that_of_the_definition() -> None:
    student, teacher = (torch.from_numpy(logits[:2, :4]) for logits in two(1))
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: generalized_jsd(logits, teacher, 0.3, 2.0), student)


def test_it_is_zero_where_both_agree() -> None:
    student = torch.from_numpy(two(2)[0])
    assert generalized_jsd(student, student + 5, 0.3, 2.0).item() == pytest.approx(0, abs=1e-14)


def test_at_half_it_does_not_matter_who_is_the_teacher() -> None:
    one, other = (torch.from_numpy(logits) for logits in two(3))
    assert generalized_jsd(one, other, 0.5, 1.0).item() == pytest.approx(generalized_jsd(other, one, 0.5, 1.0).item())
    assert generalized_jsd(one, other, 0.2, 1.0).item() != pytest.approx(generalized_jsd(other, one, 0.2, 1.0).item())
    assert generalized_jsd(one, other, 0.2, 1.0).item() == pytest.approx(generalized_jsd(other, one, 0.8, 1.0).item())


@pytest.mark.parametrize(("beta", "bound"), [(0.5, np.log(2)), (0.1, -0.1 * np.log(0.1) - 0.9 * np.log(0.9))])
def test_it_reaches_its_bound_where_nothing_is_shared_and_never_exceeds_it(beta: float, bound: float) -> None:
    apart, other = torch.tensor([[1e4, -1e4, -1e4]]).double(), torch.tensor([[-1e4, 1e4, -1e4]]).double()
    assert generalized_jsd(apart, other, beta, 1.0).item() == pytest.approx(bound, rel=1e-12)
    student, teacher = (torch.from_numpy(10 * logits) for logits in two(4))
    assert 0.5 * bound < generalized_jsd(student, teacher, beta, 1.0).item() < bound


def test_towards_its_ends_it_tends_to_a_share_of_forward_and_of_reverse_kl() -> None:
    student, teacher = two(5)
    p, q = probabilities(teacher), probabilities(student)
    small = generalized_jsd(torch.from_numpy(student), torch.from_numpy(teacher), 1e-6, 1.0).item()
    large = generalized_jsd(torch.from_numpy(student), torch.from_numpy(teacher), 1 - 1e-6, 1.0).item()
    assert small / 1e-6 == pytest.approx(divergence(p, q), rel=1e-3)
    assert large / 1e-6 == pytest.approx(divergence(q, p), rel=1e-3)


@pytest.mark.parametrize("beta", [-0.1, 0.0, 1.0, 1.1])
def test_a_beta_that_would_teach_nothing_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta"):
        generalized_jsd(torch.zeros(1, 2), torch.zeros(1, 2), beta, 1.0)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = generalized_jsd(student, torch.tensor([[-1e4, 1e4]]), 0.5, 1.0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(np.log(2), rel=1e-6)
    assert torch.isfinite(gradient).all()
