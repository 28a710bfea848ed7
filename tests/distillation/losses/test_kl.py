from __future__ import annotations

import pytest
import torch
from torch import Tensor

from compress.distillation.losses.kl import kl


def by_hand(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 sum p log(p / q), mean over examples, in fp64 and straight from the definition."""
    p = (teacher.double() / temperature).softmax(1)
    q = (student.double() / temperature).softmax(1)
    return temperature**2 * (p * (p / q).log()).sum(1).mean()


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("shape", [(6, 10), (3, 5, 4, 4)])
def test_it_is_its_definition(temperature: float, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(shape, generator=generator), 3 * torch.randn(shape, generator=generator)
    found = kl(student, teacher, temperature)
    torch.testing.assert_close(found.double(), by_hand(student, teacher, temperature), rtol=1e-5, atol=1e-6)


def test_it_is_zero_where_both_agree_and_positive_elsewhere() -> None:
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(1))
    assert kl(logits, logits + 5, 3.0).item() == pytest.approx(0, abs=1e-5)
    assert kl(logits, logits.flip(1), 3.0).item() > 0


def test_it_is_the_teachers_divergence_from_the_student_and_not_the_reverse() -> None:
    certain, unsure = torch.tensor([[9.0, 0.0]]), torch.zeros(1, 2)
    assert kl(unsure, certain, 1.0).item() == pytest.approx(0.692, abs=2e-3)
    assert kl(certain, unsure, 1.0).item() == pytest.approx(3.807, abs=2e-3)


def test_gradients_keep_their_size_at_high_temperature() -> None:
    """Hinton et al. 2015, eq. 4: T^2 dC/dz -> (z - v) / classes for zero-mean logits, per example."""
    generator = torch.Generator().manual_seed(2)
    student, teacher = (torch.randn(1, 10, generator=generator) for _ in range(2))
    student, teacher = student - student.mean(), teacher - teacher.mean()
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(kl(student, teacher, 1000.0), student)
    torch.testing.assert_close(gradient, (student.detach() - teacher) / 10, rtol=2e-2, atol=1e-3)


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = kl(student, torch.tensor([[-1e4, 1e4]]), 1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
