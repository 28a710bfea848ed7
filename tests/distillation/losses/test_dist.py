from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.distillation.losses.dist import dist


def probabilities(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powers = np.exp(logits / temperature)
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def two(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.random.default_rng(seed)
    return 3 * numbers.normal(size=(6, 10)), 3 * numbers.normal(size=(6, 10))


def distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean over rows of 1 - covariance / (deviation * deviation)."""
    correlations = []
    for x, y in zip(one, other, strict=True):
        covariance = (x * y).mean() - x.mean() * y.mean()
        correlations.append(covariance / np.sqrt(((x - x.mean()) ** 2).mean() * ((y - y.mean()) ** 2).mean()))
    return 1 - float(np.mean(correlations))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 0.0), (0.0, 1.0), (1.5, 0.5)])
def test_it_is_its_definition(beta: float, gamma: float, temperature: float) -> None:
    student, teacher = two(0)
    q, p = probabilities(student, temperature), probabilities(teacher, temperature)
    expected = temperature**2 * (beta * distance(q, p) + gamma * distance(q.T, p.T))
    found = dist(torch.from_numpy(student), torch.from_numpy(teacher), beta, gamma, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("kind", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("temperature", [1.0, 50.0])
def test_it_is_zero_where_both_agree(kind: torch.dtype, near: float, temperature: float) -> None:
    student = torch.from_numpy(two(1)[0]).to(kind)
    found = dist(student, student + 5, 1.0, 1.0, temperature).item() / temperature**2
    assert found == pytest.approx(0, abs=near)


def test_the_part_over_classes_ignores_scale_and_shift_of_a_rows_probabilities() -> None:
    """A student half as far from uniform is a scale and a shift of the teacher; KL would not call that equal."""
    teacher = two(2)[1]
    p = probabilities(teacher, 1.0)
    student = np.log(0.5 * p + 0.5 / p.shape[1])
    assert dist(torch.from_numpy(student), torch.from_numpy(teacher), 1.0, 0.0, 1.0).item() == pytest.approx(
        0, abs=1e-12
    )
    backwards = np.log((1 - p) / (p.shape[1] - 1))
    assert dist(torch.from_numpy(backwards), torch.from_numpy(teacher), 1.0, 0.0, 1.0).item() == pytest.approx(2)


def test_its_gradient_is_that_of_the_definition() -> None:
    student, teacher = (torch.from_numpy(logits[:3, :4]) for logits in two(3))
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: dist(logits, teacher, 1.0, 0.5, 2.0), student)


def test_a_single_row_has_nothing_to_correlate_over_rows() -> None:
    student, teacher = (torch.from_numpy(logits[:1]) for logits in two(4))
    assert dist(student, teacher, 0.0, 1.0, 2.0).item() == 0
    assert dist(student, teacher, 1.0, 1.0, 2.0).item() == dist(student, teacher, 1.0, 0.0, 2.0).item() > 0


@pytest.mark.parametrize("classes", [3, 10, 1000])
def test_constant_rows_cost_nothing_if_they_are_the_teachers_and_all_if_they_are_the_students(classes: int) -> None:
    """Also in float32, where probabilities of 1 / classes less their mean are not quite 0."""
    varied = torch.randn(4, classes, generator=torch.Generator().manual_seed(5))
    student, flat = varied.clone().requires_grad_(), torch.full((4, classes), 0.1, requires_grad=True)
    taught_nothing, missed_all = dist(student, flat.detach(), 1.0, 1.0, 1.0), dist(flat, varied, 1.0, 1.0, 1.0)
    assert taught_nothing.item() == 0
    assert missed_all.item() == 2
    assert not torch.autograd.grad(taught_nothing, student)[0].any()
    assert torch.isfinite(torch.autograd.grad(missed_all, flat)[0]).all()


def test_extreme_logits_stay_finite() -> None:
    """Classes without any probability, classes with probabilities whose squares are 0 in float32, and certain rows."""
    logits = torch.tensor([[1e4, -1e4, 0.0], [60.0, 0.0, -1e4], [61.0, 2.0, -1e4], [90.0, 0.0, 1.0]])
    student = logits.flip(1).clone().requires_grad_()
    loss = dist(student, logits, 1.0, 1.0, 1.0)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()
    assert dist(logits, logits, 1.0, 1.0, 1.0).item() == pytest.approx(0, abs=1e-6)


def test_probabilities_too_small_for_their_inverse_give_no_gradient_and_not_an_infinite_one() -> None:
    student = torch.tensor([[88.0, 0.0], [89.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    loss = dist(student, teacher, 0.0, 1.0, 1.0)
    assert 0 < student.detach().softmax(1)[:, 1].max() < 1e-37
    assert loss.item() == 1
    assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()
