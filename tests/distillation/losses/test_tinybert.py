from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.attention_scores import attention_scores
from compress.distillation.losses.tinybert import attention_mse

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])


def by_hand(student: Tensor, teacher: Tensor, mask: Tensor, causal: bool = False) -> float:
    """The squared difference of each pair of real tokens and each head, and then the mean."""
    found = []
    s, t, m = student.double().numpy(), teacher.double().numpy(), mask.numpy()
    for n, h, i, j in np.ndindex(*s.shape):
        if m[n, i] and m[n, j] and (j <= i or not causal):
            found.append((s[n, h, i, j] - t[n, h, i, j]) ** 2)
    return float(np.mean(found))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_mean_square_over_pairs_of_real_tokens(causal: bool) -> None:
    student, teacher = (attention_scores(normal(3, 5, 8, seed=s), normal(3, 5, 8), 2, MASK) for s in (1, 2))
    expected = by_hand(student, teacher, MASK, causal)
    assert attention_mse(student, teacher, MASK, causal).item() == pytest.approx(expected, rel=1e-12)
    assert attention_mse(teacher, teacher, MASK, causal).item() == 0


def test_hidden_keys_do_not_make_the_mean_smaller() -> None:
    """Scores of student and teacher are equally low where a key is hidden: counted, they would add zeros."""
    student, teacher = (
        attention_scores(normal(3, 5, 8, seed=s), normal(3, 5, 8), 2, MASK, causal=True) for s in (1, 2)
    )
    assert attention_mse(student, teacher, MASK).item() < attention_mse(student, teacher, MASK, causal=True).item()


def test_a_padded_batch_has_the_value_of_the_unpadded() -> None:
    student, teacher = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    padded_student, padded_teacher = torch.full((2, 3, 6, 6), float("nan")), torch.full((2, 3, 6, 6), -1e4)
    padded_student, padded_teacher = padded_student.double(), padded_teacher.double()
    padded_student[:, :, :4, :4], padded_teacher[:, :, :4, :4] = student, teacher
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * 2)
    expected = attention_mse(student, teacher, torch.ones(2, 4)).item()
    assert attention_mse(padded_student, padded_teacher, mask).item() == pytest.approx(expected, rel=1e-12)
    padded_student.requires_grad_()
    (gradient,) = torch.autograd.grad(attention_mse(padded_student, padded_teacher, mask), padded_student)
    torch.testing.assert_close(gradient[:, :, :4, :4], (student - teacher) * 2 / student.numel())
    assert (gradient[:, :, 4:] == 0).all()
    assert (gradient[:, :, :, 4:] == 0).all()


def test_half_precision_is_squared_in_float32() -> None:
    """300^2 is more than fp16 holds."""
    student, teacher = torch.full((1, 1, 2, 2), 300.0).half(), torch.zeros(1, 1, 2, 2).half()
    assert attention_mse(student, teacher, torch.ones(1, 2)).item() == 90_000


def test_different_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="the student has 2 heads and the teacher 4"):
        attention_mse(normal(3, 2, 5, 5), normal(3, 4, 5, 5), MASK)


def test_a_batch_of_padding_alone_teaches_nothing() -> None:
    assert attention_mse(normal(1, 2, 5, 5), normal(1, 2, 5, 5, seed=1), torch.zeros(1, 5)).item() == 0
