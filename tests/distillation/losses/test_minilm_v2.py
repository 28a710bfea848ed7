from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.minilm_v2 import minilm_v2, relations

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])
Qkv = tuple[Tensor, Tensor, Tensor]


def by_hand(student: Qkv, teacher: Qkv, heads: int, mask: Tensor, causal: bool) -> float:
    """sum p log(p / q) with loops over kinds, examples, relation heads and real tokens; padding is cut out."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        for n, h in np.ndindex(len(mask), heads):
            places = np.flatnonzero(mask[n].numpy())
            for i in places:
                seen = [j for j in places if j <= i or not causal]
                log_shares = []
                for vectors in (t, s):
                    size = vectors.shape[2] // heads
                    part = vectors[n].double().numpy()[:, h * size : (h + 1) * size]
                    scores = np.array([part[i] @ part[j] / np.sqrt(size) for j in seen])
                    log_shares.append(scores - scores.max() - np.log(np.exp(scores - scores.max()).sum()))
                log_p, log_q = log_shares
                total += float(np.sum(np.exp(log_p) * (log_p - log_q)))
    return total / (heads * mask.sum().item())


def qkv(width: int, seed: int, key_width: int | None = None, tokens: int = 5) -> Qkv:
    generator = torch.Generator().manual_seed(seed)
    widths = (width, key_width or width, key_width or width)
    query, key, value = (1.5 * torch.randn(3, tokens, w, generator=generator).double() for w in widths)
    return query, key, value


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_it_is_its_definition(heads: int, causal: bool) -> None:
    """Of a student narrower than its teacher, whose keys and values are fewer than its queries."""
    student, teacher = qkv(12, 0), qkv(24, 1, 8)
    expected = by_hand(student, teacher, heads, MASK, causal)
    found = minilm_v2(student, teacher, heads, MASK, causal).item()
    assert found == pytest.approx(expected, rel=1e-12)


def test_relations_are_equal_whatever_the_width_and_the_basis() -> None:
    """Vectors of two relation heads, turned within each, and made wider by zeros: a factor makes up for the scale."""
    student = qkv(12, 0)
    basis: Tensor = torch.from_numpy(np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0])

    def wider(vectors: Tensor) -> Tensor:
        parts = torch.zeros(3, 5, 2, 10, dtype=torch.float64)
        parts[..., :6] = vectors.reshape(3, 5, 2, 6)
        turned: Tensor = parts @ basis
        return turned.mul((10 / 6) ** 0.25).reshape(3, 5, 20)

    query, key, value = (wider(x) for x in student)
    torch.testing.assert_close(relations(query, 2, MASK), relations(student[0], 2, MASK), rtol=1e-12, atol=1e-12)
    assert minilm_v2(student, (query, key, value), 2, MASK).item() == pytest.approx(0, abs=1e-13)
    assert minilm_v2(student, (query, key, value), 4, MASK).item() > 0.1, "other heads have other relations"


def test_it_is_zero_for_itself_and_each_kind_counts() -> None:
    query, key, value = qkv(12, 0)
    assert minilm_v2((query, key, value), (query, key, value), 3, MASK).item() == 0
    for place in range(3):
        changed = [query, key, value]
        changed[place] = 2 * changed[place]
        teacher = (changed[0], changed[1], changed[2])
        assert minilm_v2((query, key, value), teacher, 3, MASK).item() > 0.1


def test_a_padded_batch_has_the_value_of_the_unpadded() -> None:
    student, teacher = qkv(8, 0, tokens=4), qkv(8, 1, tokens=4)
    expected = minilm_v2(student, teacher, 2, torch.ones(3, 4)).item()

    def padded(vectors: Tensor) -> Tensor:
        return torch.cat([vectors, torch.full((3, 2, 8), 1e3, dtype=torch.float64)], dim=1)

    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * 3)
    wide_student, wide_teacher = ((padded(q), padded(k), padded(v)) for q, k, v in (student, teacher))
    assert minilm_v2(wide_student, wide_teacher, 2, mask).item() == pytest.approx(expected, rel=1e-12)


def test_a_width_that_cannot_be_split_is_named() -> None:
    with pytest.raises(ValueError, match="a width of 12 cannot be split into 5 relation heads"):
        minilm_v2(qkv(12, 0), qkv(20, 1), 5, MASK)


def test_gradients_are_those_of_differences() -> None:
    query, key, value = (x.requires_grad_() for x in qkv(4, 0))
    teacher = qkv(8, 1)
    assert torch.autograd.gradcheck(lambda q, k, v: minilm_v2((q, k, v), teacher, 2, MASK), (query, key, value))
