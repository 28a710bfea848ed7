from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.attention_transfer import attention_transfer


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(student: Tensor, teacher: Tensor, power: float) -> float:
    """The definition, in NumPy, for maps of equal sizes."""
    rows = []
    for features in (student.numpy(), teacher.numpy()):
        attention = (np.abs(features) ** power).mean(1).reshape(len(features), -1)
        rows.append(attention / np.sqrt((attention**2).sum(1, keepdims=True)))
    return float(((rows[0] - rows[1]) ** 2).mean())


@pytest.mark.parametrize("power", [1, 2, 3])
def test_it_is_its_definition(power: int) -> None:
    student, teacher = random(3, 4, 5, 6), random(3, 9, 5, 6, seed=1)
    assert attention_transfer(student, teacher, power).item() == pytest.approx(by_hand(student, teacher, power), 1e-12)


def test_the_larger_map_is_pooled() -> None:
    student, teacher = random(3, 4, 4, 4), random(3, 9, 8, 8, seed=1)
    smaller = torch.from_numpy(teacher.numpy().reshape(3, 9, 4, 2, 4, 2).mean((3, 5)))
    assert attention_transfer(student, teacher).item() == pytest.approx(by_hand(student, smaller, 2), 1e-12)
    assert attention_transfer(teacher, student).item() == pytest.approx(by_hand(student, smaller, 2), 1e-12)


def test_it_is_zero_where_both_look_alike_whatever_the_scale_and_the_channels() -> None:
    features = random(3, 4, 5, 6)
    assert attention_transfer(features, features).item() == 0
    assert attention_transfer(-7 * features.flip(1).repeat(1, 2, 1, 1), features).item() == pytest.approx(0, abs=1e-30)


def test_the_gradient_is_that_of_differences() -> None:
    student, teacher = random(2, 3, 4, 4).requires_grad_(), random(2, 5, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda features: attention_transfer(features, teacher), student)
    (gradient,) = torch.autograd.grad(attention_transfer(student, teacher), student)
    assert gradient.abs().max() > 1e-4


@pytest.mark.parametrize("power", [1, 2])
def test_dead_maps_give_finite_values_and_gradients(power: float) -> None:
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = attention_transfer(student, random(2, 3, 4, 4).float(), power)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(1 / 16, rel=1e-6)  # the teacher's vectors of length 1 against zeros
    assert (gradient == 0).all()
