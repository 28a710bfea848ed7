from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from compress.distillation.losses.dkd import dkd, dkd_parts

TARGETS = np.array([0, 1, 2, 9, 4, 0])
LABELS = torch.from_numpy(TARGETS)


def probabilities(logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    powers = np.exp(logits / temperature)
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


def two(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.random.default_rng(seed)
    return 3 * numbers.normal(size=(6, 10)), 3 * numbers.normal(size=(6, 10))


def by_hand(p: NDArray[np.float64], q: NDArray[np.float64], target: int) -> tuple[float, float]:
    """Both parts of one row, of the teacher's p and the student's q."""
    pair_p, pair_q = np.array([p[target], 1 - p[target]]), np.array([q[target], 1 - q[target]])
    others_p, others_q = np.delete(p, target) / (1 - p[target]), np.delete(q, target) / (1 - q[target])
    return (pair_p * np.log(pair_p / pair_q)).sum(), (others_p * np.log(others_p / others_q)).sum()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_it_is_its_definition(temperature: float) -> None:
    student, teacher = two(0)
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    parts = np.array([by_hand(*row) for row in zip(p, q, TARGETS, strict=True)])
    found = dkd_parts(torch.from_numpy(student), torch.from_numpy(teacher), LABELS, temperature)
    np.testing.assert_allclose(torch.stack(found, dim=1).numpy(), parts, rtol=1e-10)
    loss = dkd(torch.from_numpy(student), torch.from_numpy(teacher), LABELS, 1.5, 8.0, temperature)
    assert loss.item() == pytest.approx(temperature**2 * (parts @ [1.5, 8.0]).mean(), rel=1e-10)


def test_weighted_by_the_teachers_doubt_the_parts_add_up_to_kl_row_by_row() -> None:
    student, teacher = two(1)
    p, q = probabilities(teacher, 2.0), probabilities(student, 2.0)
    target_part, other_part = dkd_parts(torch.from_numpy(student), torch.from_numpy(teacher), LABELS, 2.0)
    doubt = 1 - p[np.arange(6), TARGETS]
    found = target_part.numpy() + doubt * other_part.numpy()
    np.testing.assert_allclose(found, (p * np.log(p / q)).sum(1), rtol=1e-10)


def test_it_is_zero_where_both_agree() -> None:
    student = torch.from_numpy(two(2)[0])
    assert dkd(student, student + 5, LABELS, 1.0, 8.0, 4.0).item() == pytest.approx(0, abs=1e-12)


def test_each_part_sees_only_its_own() -> None:
    """Other classes changed among themselves leave the first part; a changed target leaves the second."""
    logits, targets = torch.tensor([[1.0, 2.0, 3.0]]).double(), torch.tensor([0])
    others, target = torch.tensor([[1.0, 3.0, 2.0]]).double(), torch.tensor([[5.0, 2.0, 3.0]]).double()
    assert dkd_parts(others, logits, targets, 1.0)[0].item() == pytest.approx(0, abs=1e-14)
    assert dkd_parts(others, logits, targets, 1.0)[1].item() > 0.1
    assert dkd_parts(target, logits, targets, 1.0)[0].item() > 0.1
    assert dkd_parts(target, logits, targets, 1.0)[1].item() == pytest.approx(0, abs=1e-14)


def test_its_gradient_is_that_of_the_definition() -> None:
    student, teacher = (torch.from_numpy(logits[:3, :4]) for logits in two(3))
    student.requires_grad_()
    targets = torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(lambda logits: dkd(logits, teacher, targets, 1.0, 8.0, 2.0), student)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_a_certain_teacher_or_student_gives_finite_values_and_gradients(kind: torch.dtype) -> None:
    """Rows: teacher certain and right, certain and wrong, the same of the student, and both certain and apart."""
    certain, unsure = [1e4, 0.0, -1.0], [1.0, 2.0, 3.0]
    teacher = torch.tensor([certain, certain, unsure, unsure, certain], dtype=kind)
    student = torch.tensor([unsure, unsure, certain, certain, certain[::-1]], dtype=kind, requires_grad=True)
    targets = torch.tensor([0, 1, 0, 1, 0])
    target_part, other_part = dkd_parts(student, teacher, targets, 1.0)
    assert torch.isfinite(target_part).all()
    assert torch.isfinite(other_part).all()
    q = np.exp(unsure) / np.exp(unsure).sum()
    assert target_part[0].item() == pytest.approx(-np.log(q[0]), rel=1e-5)
    (gradient,) = torch.autograd.grad(dkd(student, teacher, targets, 1.0, 8.0, 1.0), student)
    assert torch.isfinite(gradient).all()
    assert gradient[0].abs().max() > 0.1
