from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.minilm import minilm

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])
Qkv = tuple[Tensor, Tensor, Tensor]


def shares(left: npt.NDArray[Any], right: npt.NDArray[Any], causal: bool) -> npt.NDArray[Any]:
    """Softmax of the scaled dot products of two lists of vectors."""
    scores = left @ right.T / np.sqrt(left.shape[1])
    if causal:
        scores[np.arange(len(left))[:, None] < np.arange(len(left))] = -np.inf
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def by_hand(student: Qkv, teacher: Qkv, heads: int, mask: Tensor, causal: bool = False) -> float:
    """Example by example and head by head, padding cut out; a head reads its share of fewer keys and values."""

    def head(vectors: Tensor, n: int, h: int, query: Tensor) -> npt.NDArray[Any]:
        size = query.shape[2] // heads
        start = h * vectors.shape[2] // query.shape[2] * size
        return np.asarray(vectors[n].double().numpy()[mask[n].bool().numpy(), start : start + size])

    found = []
    for n, h in np.ndindex(len(mask), heads):
        parts = [[head(x, n, h, qkv[0]) for x in qkv] for qkv in (student, teacher)]
        for left, right in ((0, 1), (2, 2)):
            q, p = (shares(part[left], part[right], causal) for part in parts)
            ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
            found.append(np.sum(p * np.log(ratio)))
    return float(np.sum(found) / (heads * mask.sum().item()))


def qkv(width: int, seed: int, key_width: int | None = None, tokens: int = 5) -> Qkv:
    generator = torch.Generator().manual_seed(seed)
    widths = (width, key_width or width, key_width or width)
    query, key, value = (1.5 * torch.randn(3, tokens, w, generator=generator).double() for w in widths)
    return query, key, value


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("student_key_width", [8, 4, 2])
def test_it_is_its_definition(causal: bool, student_key_width: int) -> None:
    """The teacher is wider, and the student's heads may share keys and values."""
    student, teacher = qkv(8, 0, student_key_width), qkv(24, 1)
    expected = by_hand(student, teacher, 4, MASK, causal)
    assert minilm(student, teacher, 4, 4, MASK, causal).item() == pytest.approx(expected, rel=1e-12)


def test_it_is_zero_for_equal_relations_and_not_elsewhere() -> None:
    student = qkv(8, 0)
    query, key, value = student
    assert minilm(student, student, 2, 2, MASK).item() == pytest.approx(0, abs=1e-14)
    assert minilm((2 * query, key / 2, -value), student, 2, 2, MASK).item() == pytest.approx(0, abs=1e-14)
    assert minilm((query, key, 2 * value), student, 2, 2, MASK).item() > 0.1
    assert minilm((query, 2 * key, value), student, 2, 2, MASK).item() > 0.1


def test_a_padded_batch_has_the_value_of_the_unpadded() -> None:
    student, teacher = qkv(8, 0, tokens=4), qkv(8, 1, tokens=4)
    expected = minilm(student, teacher, 2, 2, torch.ones(3, 4)).item()

    def padded(vectors: Tensor) -> Tensor:
        return torch.cat([vectors, torch.full((3, 2, 8), 1e3, dtype=torch.float64)], dim=1)

    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * 3)
    wide_student, wide_teacher = ((padded(q), padded(k), padded(v)) for q, k, v in (student, teacher))
    assert minilm(wide_student, wide_teacher, 2, 2, mask).item() == pytest.approx(expected, rel=1e-12)


def test_different_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="the student has 2 heads and the teacher 4"):
        minilm(qkv(8, 0), qkv(8, 1), 2, 4, MASK)


def test_half_precision_is_near_the_definition() -> None:
    student, teacher = qkv(8, 0), qkv(8, 1)
    query, key, value = (x.half() for x in student)
    found = minilm((query, key, value), teacher, 2, 2, MASK).item()
    assert found == pytest.approx(by_hand(student, teacher, 2, MASK), rel=3e-3)


def test_gradients_are_those_of_differences() -> None:
    query, key, value = (x.requires_grad_() for x in qkv(4, 0))
    teacher = qkv(4, 1)
    assert torch.autograd.gradcheck(lambda q, k, v: minilm((q, k, v), teacher, 2, 2, MASK, True), (query, key, value))
