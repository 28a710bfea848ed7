from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.hidden import hidden_cosine, hidden_mse

LOSSES = pytest.mark.parametrize("loss", [hidden_mse, hidden_cosine])
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
LENGTHS = (4, 1, 3)
"""Real tokens of each example; the longest fills all 4."""


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask_of(lengths: tuple[int, ...], tokens: int) -> Tensor:
    return torch.tensor([[int(token < length) for token in range(tokens)] for length in lengths])


def by_hand(loss: Loss, student: Tensor, teacher: Tensor, lengths: tuple[int, ...]) -> float:
    """Token by token, in NumPy."""
    values = []
    for s, t, length in zip(student.numpy(), teacher.numpy(), lengths, strict=True):
        for a, b in zip(s[:length], t[:length], strict=True):
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            values.append(((a - b) ** 2).mean() if loss is hidden_mse else 1 - cosine)
    return float(np.mean(values))


@LOSSES
@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.float32])
def test_it_is_its_definition(loss: Loss, kind: torch.dtype) -> None:
    student, teacher = random(3, 4, 5), random(3, 4, 5, seed=1)
    found = loss(student, teacher, mask_of(LENGTHS, 4).to(kind))
    assert found.item() == pytest.approx(by_hand(loss, student, teacher, LENGTHS), rel=1e-12)
    assert loss(student, teacher, None).item() == pytest.approx(by_hand(loss, student, teacher, (4, 4, 4)), rel=1e-12)


@LOSSES
def test_padding_changes_neither_value_nor_gradient(loss: Loss) -> None:
    student, teacher = random(3, 4, 5), random(3, 4, 5, seed=1)
    padded = torch.cat([student, torch.full((3, 2, 5), torch.nan, dtype=torch.float64)], 1).requires_grad_()
    short = student.clone().requires_grad_()
    plain = loss(short, teacher, None)
    longer = loss(padded, torch.cat([teacher, 9 * random(3, 2, 5)], 1), mask_of((4, 4, 4), 6))
    (expected,), (found,) = torch.autograd.grad(plain, short), torch.autograd.grad(longer, padded)
    assert longer.item() == pytest.approx(plain.item(), rel=1e-14)
    np.testing.assert_allclose(found[:, :4].numpy(), expected.numpy(), rtol=1e-12)
    assert (found[:, 4:] == 0).all()


@LOSSES
def test_it_is_zero_at_equality(loss: Loss) -> None:
    states = random(3, 4, 5)
    assert loss(states, states, mask_of(LENGTHS, 4)).item() == pytest.approx(0, abs=1e-15)
    assert loss(-states, states, None).item() > 1


def test_cosines_do_not_see_lengths_and_opposite_states_cost_two() -> None:
    states = random(3, 4, 5)
    assert hidden_cosine(7 * states, states, None).item() == pytest.approx(0, abs=1e-15)
    assert hidden_cosine(-states, states, None).item() == pytest.approx(2, rel=1e-15)


@LOSSES
def test_the_gradient_is_that_of_differences(loss: Loss) -> None:
    student, teacher, mask = random(3, 4, 2).requires_grad_(), random(3, 4, 2, seed=1), mask_of(LENGTHS, 4)
    assert torch.autograd.gradcheck(lambda states: loss(states, teacher, mask), student)
    (gradient,) = torch.autograd.grad(loss(student, teacher, mask), student)
    assert gradient.abs().max() > 1e-3


@LOSSES
def test_no_real_token_and_zero_states_give_finite_values_and_gradients(loss: Loss) -> None:
    student = torch.zeros(2, 3, 4, requires_grad=True)
    teacher = random(2, 3, 4).float()
    nothing = loss(student, teacher, torch.zeros(2, 3))
    zeros = loss(student, teacher, None)
    (gradient,) = torch.autograd.grad(nothing + zeros, student)
    assert nothing.item() == 0
    assert 0 < zeros.item() < 5
    assert gradient.abs().max() < 10
