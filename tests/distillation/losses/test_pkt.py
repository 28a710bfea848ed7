from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.pkt import pkt


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def picks(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """[i, j]: the probability that example i picks j."""
    flat = features.reshape(len(features), -1)
    found = np.zeros((len(flat), len(flat)))
    for i, a in enumerate(flat):
        for j, b in enumerate(flat):
            if i != j:
                found[i, j] = (a @ b / np.linalg.norm(a) / np.linalg.norm(b) + 1) / 2
    found /= found.sum(1, keepdims=True)
    return found


def by_hand(student: Tensor, teacher: Tensor) -> float:
    """Mean over i of the sum over j != i of p log(p / q)."""
    q, p = picks(student.numpy()), picks(teacher.numpy())
    others = [(i, j) for i in range(len(p)) for j in range(len(p)) if i != j]
    return float(sum(p[at] * np.log(p[at] / q[at]) for at in others) / len(p))


@pytest.mark.parametrize(("student", "teacher"), [((6, 4), (6, 9)), ((5, 3, 4, 4), (5, 8, 2, 2)), ((3, 2), (3, 2))])
def test_it_is_its_definition(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    first, second = random(*student), random(*teacher, seed=1)
    assert pkt(first, second).item() == pytest.approx(by_hand(first, second), rel=1e-10)


def test_it_is_zero_at_equality_whatever_the_scale_and_positive_elsewhere() -> None:
    features = random(6, 4)
    assert pkt(features, features).item() == 0
    assert pkt(5 * features, features).item() == pytest.approx(0, abs=1e-15)
    assert pkt(features.flip(0), features).item() > 1e-3


def test_the_gradient_is_that_of_differences() -> None:
    student, teacher = random(5, 3).requires_grad_(), random(5, 4, seed=1)
    assert torch.autograd.gradcheck(lambda features: pkt(features, teacher), student)
    (gradient,) = torch.autograd.grad(pkt(student, teacher), student)
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("rows", [[[1.0, 0.0], [-1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]], [[1.0, 2.0]]])
def test_opposite_zero_and_single_vectors_give_finite_values_and_gradients(rows: list[list[float]]) -> None:
    student = torch.tensor(rows, requires_grad=True)
    loss = pkt(student, torch.tensor(rows).flip(1))
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert gradient.abs().max() < 10


def test_opposite_examples_of_the_student_cost_a_finite_price() -> None:
    student, teacher = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]), torch.ones(3, 2)
    # Row 0 and row 2 pick evenly in the teacher and (1e-7, 1) in the student; row 1 picks evenly in both.
    assert pkt(student, teacher).item() == pytest.approx(2 / 3 * np.log(0.5 / np.sqrt(1e-7)), rel=1e-5)
