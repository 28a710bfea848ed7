from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.distillation.losses.mlkd import mlkd


def probabilities(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powers = np.exp(logits / temperature)
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def two(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.random.default_rng(seed)
    return 3 * numbers.normal(size=(6, 10)), 3 * numbers.normal(size=(6, 10))


def levels(student: NDArray[np.float64], teacher: NDArray[np.float64], temperature: float) -> list[float]:
    """Instance, batch and class level, pair by pair."""
    q, p = probabilities(student, temperature), probabilities(teacher, temperature)
    rows, classes = p.shape
    of_rows = [(q[i] @ q[j] - p[i] @ p[j]) ** 2 for i in range(rows) for j in range(rows)]
    of_classes = [(q[:, i] @ q[:, j] - p[:, i] @ p[:, j]) ** 2 for i in range(classes) for j in range(classes)]
    instance = temperature**2 * (p * np.log(p / q)).sum() / rows
    return [float(instance), float(sum(of_rows)) / rows, float(sum(of_classes)) / classes]


@pytest.mark.parametrize("temperatures", [(1.0,), (4.0,), (2.0, 3.0, 4.0, 5.0, 6.0)])
def test_it_is_its_definition(temperatures: tuple[float, ...]) -> None:
    student, teacher = two(0)
    expected = sum(sum(levels(student, teacher, temperature)) for temperature in temperatures)
    found = mlkd(torch.from_numpy(student), torch.from_numpy(teacher), temperatures)
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_each_level_has_its_weight() -> None:
    student, teacher = two(4)
    expected = sum(weight * level for weight, level in zip((0.5, 2.0, 3.0), levels(student, teacher, 2.0), strict=True))
    found = mlkd(torch.from_numpy(student), torch.from_numpy(teacher), (2.0,), (0.5, 2.0, 3.0))
    assert found.item() == pytest.approx(expected, rel=1e-10)


def test_it_is_zero_where_both_agree_and_so_is_its_gradient() -> None:
    teacher = torch.from_numpy(two(1)[1])
    student = (teacher + 5).requires_grad_()
    loss = mlkd(student, teacher, (2.0, 4.0))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert torch.autograd.grad(loss, student)[0].abs().max().item() == pytest.approx(0, abs=1e-12)


def test_its_gradient_is_that_of_the_definition() -> None:
    student, teacher = (torch.from_numpy(logits[:3, :4]) for logits in two(2))
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: mlkd(logits, teacher, (1.0, 3.0)), student)


def test_no_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature"):
        mlkd(torch.zeros(2, 3), torch.zeros(2, 3), ())


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4], [0.0, 1e4]], requires_grad=True)
    loss = mlkd(student, student.detach().flip(1), (1.0, 4.0))
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert gradient.any()


def test_autocast_does_not_round_its_products() -> None:
    student, teacher = (torch.from_numpy(logits).float() for logits in two(3))
    with torch.autocast("cpu", torch.bfloat16):
        found = mlkd(student, teacher, (1.0, 4.0))
    torch.testing.assert_close(found, mlkd(student, teacher, (1.0, 4.0)), rtol=1e-6, atol=0)
