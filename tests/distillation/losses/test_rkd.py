from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.rkd import rkd_angle, rkd_distance

LOSSES = pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])
Loss = Callable[[Tensor, Tensor], Tensor]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width: int) -> Tensor:
    return torch.from_numpy(np.linalg.qr(random(width, width, seed=9).numpy())[0])


def huber(first: float, second: float) -> float:
    gap = abs(first - second)
    return gap**2 / 2 if gap <= 1 else gap - 0.5


def distances_by_hand(student: Tensor, teacher: Tensor) -> float:
    sides = []
    for points in (student.numpy(), teacher.numpy()):
        found = {
            (i, j): np.linalg.norm(points[i] - points[j]) for i, j in itertools.permutations(range(len(points)), 2)
        }
        mean = np.mean(list(found.values()))
        sides.append({pair: float(distance / mean) for pair, distance in found.items()})
    return float(np.mean([huber(sides[0][pair], sides[1][pair]) for pair in sides[0]]))


def angles_by_hand(student: Tensor, teacher: Tensor) -> float:
    sides: list[list[float]] = []
    for points in (student.numpy(), teacher.numpy()):
        cosines = []
        for i, j, k in itertools.permutations(range(len(points)), 3):
            a, b = points[i] - points[j], points[k] - points[j]
            lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
            cosines.append(float(a @ b) / lengths if lengths else 0.0)
        sides.append(cosines)
    return float(np.mean([huber(*pair) for pair in zip(*sides, strict=True)]))


@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_distances_are_their_definition(spread: float) -> None:
    """A far point makes gaps over 1, where Huber's loss is linear."""
    student, teacher = random(7, 3), random(7, 5, seed=1)
    student[0] *= spread**3
    assert rkd_distance(student, teacher).item() == pytest.approx(distances_by_hand(student, teacher), rel=1e-12)


def test_angles_are_their_definition() -> None:
    student, teacher = random(6, 2), random(6, 5, seed=1)
    assert rkd_angle(student, teacher).item() == pytest.approx(angles_by_hand(student, teacher), rel=1e-12)


def test_coincident_points_span_no_angle() -> None:
    student, teacher = random(6, 3), random(6, 5, seed=1)
    student[4] = student[1]
    assert rkd_angle(student, teacher).item() == pytest.approx(angles_by_hand(student, teacher), rel=1e-12)


@LOSSES
def test_it_is_zero_at_equality_and_positive_elsewhere(loss: Loss) -> None:
    points = random(7, 4)
    assert loss(points, points).item() == 0
    assert loss(points.flip(0), points).item() > 1e-3


@LOSSES
def test_rotations_shifts_and_scales_of_either_side_change_nothing(loss: Loss) -> None:
    student, teacher = random(7, 4), random(7, 5, seed=1)
    expected = loss(student, teacher).item()
    assert loss(3 * student @ rotation(4) + 1, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert loss(student, 0.1 * teacher @ rotation(5) - 2).item() == pytest.approx(expected, rel=1e-12)


@LOSSES
def test_the_gradient_is_that_of_differences(loss: Loss) -> None:
    student, teacher = random(5, 3).requires_grad_(), random(5, 4, seed=1)
    assert torch.autograd.gradcheck(lambda points: loss(points, teacher), student)
    (gradient,) = torch.autograd.grad(loss(student, teacher), student)
    assert gradient.abs().max() > 1e-3


@LOSSES
@pytest.mark.parametrize("coincident", [2, 5])
def test_coincident_points_give_finite_values_and_gradients(loss: Loss, coincident: int) -> None:
    student = random(5, 3).float()
    student[:coincident] = student[0]
    student.requires_grad_()
    value = loss(student, random(5, 4, seed=1).float())
    (gradient,) = torch.autograd.grad(value, student)
    assert 0 < value.item() < 2
    assert gradient.abs().max() < 10


@LOSSES
@pytest.mark.parametrize("examples", [1, 2])
def test_too_few_examples_have_no_relation(loss: Loss, examples: int) -> None:
    student = random(examples, 3).requires_grad_()
    value = loss(student, random(examples, 4, seed=1))
    (gradient,) = torch.autograd.grad(value, student)
    assert value.item() == 0
    assert (gradient == 0).all()
