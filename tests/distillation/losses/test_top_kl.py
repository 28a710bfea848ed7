from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from compress.distillation.losses.kl import kl
from compress.distillation.losses.top_kl import top_kl, top_of


def logits(seed: int, rows: int = 5, vocabulary: int = 12) -> torch.Tensor:
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)).double()


def by_hand(student: np.ndarray, teacher: np.ndarray, k: int, temperature: float) -> float:
    """Both softened in float64, all tokens but the teacher's first k merged, and the definition of the divergence."""
    total = 0.0
    for own, theirs in zip(student, teacher, strict=True):
        q, p = (np.exp(row / temperature) / np.exp(row / temperature).sum() for row in (own, theirs))
        first = np.argsort(-p)[:k]
        merged_p, merged_q = [*p[first], 1 - p[first].sum()], [*q[first], 1 - q[first].sum()]
        total += sum(a * np.log(a / b) for a, b in zip(merged_p, merged_q, strict=True) if a > 1e-15)
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("k", [1, 4, 11])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_it_is_its_definition(k: int, temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    found = top_kl(student, *top_of(teacher, k, temperature), temperature)
    expected = by_hand(student.numpy(), teacher.numpy(), k, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_with_all_tokens_it_is_the_whole_divergence_and_less_with_fewer() -> None:
    student, teacher = logits(0), logits(1)
    whole = kl(student, teacher, 2.0).item()
    found = [top_kl(student, *top_of(teacher, k, 2.0), 2.0).item() for k in (1, 3, 6, 12)]
    assert found[-1] == pytest.approx(whole, rel=1e-5)
    assert found == sorted(found)
    assert found[0] < whole


def test_it_is_zero_at_equality_and_its_gradient_too() -> None:
    student = logits(0).requires_grad_()
    loss = top_kl(student, *top_of(student.detach(), 4, 2.0), 2.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6


def test_a_certain_teacher_and_a_certain_student_stay_finite() -> None:
    certain = torch.zeros(1, 6)
    certain[0, 2] = 1e4
    for student, teacher in ((certain, torch.zeros(1, 6)), (torch.zeros(1, 6), certain), (certain, certain.flip(1))):
        own = student.clone().requires_grad_()
        loss = top_kl(own, *top_of(teacher, 2, 1.0), 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        assert torch.isfinite(loss)
        assert own.grad is not None
        assert torch.isfinite(own.grad).all()


class NoFloat64OnMps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Fails as Apple's GPUs do."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, Tensor) and tensor.device.type == "mps" and tensor.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return found


def test_devices_without_float64_are_spared_it() -> None:
    with FakeTensorMode(), NoFloat64OnMps():  # type: ignore[no-untyped-call]
        logits = torch.empty(2, 5, 9, device="mps")
        with pytest.raises(TypeError, match="MPS"):
            logits.double()
        assert [part.device.type for part in top_of(logits, 3, 1.0)] == ["mps"] * 3
