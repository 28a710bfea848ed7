from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.similarity_preserving import similarity_preserving


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(student: Tensor, teacher: Tensor) -> float:
    """The definition, row by row, in NumPy."""
    grams = []
    for features in (student.numpy(), teacher.numpy()):
        flat = features.reshape(len(features), -1)
        gram = np.array([[float(np.dot(a, b)) for b in flat] for a in flat])
        grams.append(np.array([row / np.linalg.norm(row) for row in gram]))
    return float(np.linalg.norm(grams[0] - grams[1], "fro") ** 2 / len(student) ** 2)


@pytest.mark.parametrize(("student", "teacher"), [((6, 4), (6, 9)), ((5, 3, 4, 4), (5, 8, 2, 2)), ((4, 7, 5), (4, 3))])
def test_it_is_its_definition(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    first, second = random(*student), random(*teacher, seed=1)
    assert similarity_preserving(first, second).item() == pytest.approx(by_hand(first, second), rel=1e-12)


def test_it_is_zero_at_equality_and_for_rotated_and_scaled_features() -> None:
    features = random(6, 4)
    rotation = torch.from_numpy(np.linalg.qr(random(4, 4, seed=1).numpy())[0])
    assert similarity_preserving(features, features).item() == 0
    assert similarity_preserving(3 * features @ rotation, features).item() == pytest.approx(0, abs=1e-28)


def test_the_gradient_is_that_of_differences() -> None:
    student, teacher = random(5, 3).requires_grad_(), random(5, 4, seed=1)
    assert torch.autograd.gradcheck(lambda features: similarity_preserving(features, teacher), student)
    (gradient,) = torch.autograd.grad(similarity_preserving(student, teacher), student)
    assert gradient.abs().max() > 1e-3


def test_an_example_without_activation_gives_no_huge_gradient() -> None:
    student = random(5, 3).float()
    student[2] = 0
    student.requires_grad_()
    loss = similarity_preserving(student, random(5, 4, seed=1).float())
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert gradient.abs().max() < 10
