from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from compress.distillation.losses.attention_scores import attention_kl, attention_scores

MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])
"""No padding, padding at the right, padding at the left."""
NEVER = torch.zeros(1, 5, dtype=torch.long)


def by_hand(query: Tensor, key: Tensor, heads: int, key_heads: int) -> npt.NDArray[Any]:
    """Every dot product on its own: head h reads key head h * key_heads / heads."""
    q, k = query.double().numpy(), key.double().numpy()
    examples, tokens, width = q.shape
    size = width // heads
    found = np.empty((examples, heads, tokens, tokens))
    for n, h, i, j in np.ndindex(*found.shape):
        mine, theirs = h * size, h * key_heads // heads * size
        found[n, h, i, j] = q[n, i, mine : mine + size] @ k[n, j, theirs : theirs + size] / np.sqrt(size)
    return found


def kl_by_hand(student: Tensor, teacher: Tensor, mask: Tensor) -> float:
    """sum p log(p / q) of each real query and head, padding cut out, and then the mean."""
    found = []
    for s, t, m in zip(student.double().numpy(), teacher.double().numpy(), mask.numpy(), strict=True):
        places = np.flatnonzero(m)
        for head, i in np.ndindex(len(s), len(places)):
            p, q = (np.exp(x[head, places[i], places] - x[head, places[i], places].max()) for x in (t, s))
            p, q = p / p.sum(), q / q.sum()
            found.append(float(np.sum(p * np.log(p / q))))
    return float(np.mean(found))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2), (4, 1), (1, 1)])
@pytest.mark.parametrize("causal", [False, True])
def test_they_are_the_scaled_dot_products_of_what_may_be_seen(heads: int, key_heads: int, causal: bool) -> None:
    query, key = normal(3, 5, 12), normal(3, 5, 12 * key_heads // heads, seed=1)
    seen = MASK.bool()[:, None, None, :].expand(3, heads, 5, 5).numpy()
    if causal:
        seen = seen & (np.arange(5)[:, None] >= np.arange(5))
    found = attention_scores(query, key, heads, MASK, causal)
    assert found.shape == (3, heads, 5, 5)
    real = seen & MASK.bool()[:, None, :, None].numpy()
    np.testing.assert_allclose(found.numpy()[real], by_hand(query, key, heads, key_heads)[real], rtol=1e-12)
    assert (found.numpy()[~seen] < -1e300).all()
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_hidden_key_gets_nothing_in_any_dtype(dtype: torch.dtype) -> None:
    vectors = normal(3, 5, 8).to(dtype)
    found = attention_scores(vectors, vectors, 2, MASK, causal=True)
    assert found.dtype == dtype
    assert torch.isfinite(found).all()
    shares = found.softmax(-1)
    assert (shares[1, :, :, 3:] == 0).all()
    assert (shares[0, :, 0, 1:] == 0).all()


def test_numbers_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="a width of 12 cannot be split into 5 heads"):
        attention_scores(normal(3, 5, 12), normal(3, 5, 12), 5, MASK)
    with pytest.raises(ValueError, match=r"keys of width 8 do not hold .* 4 heads of queries of width 12"):
        attention_scores(normal(3, 5, 12), normal(3, 5, 8), 4, MASK)
    with pytest.raises(ValueError, match="4 heads cannot share 3 key heads"):
        attention_scores(normal(3, 5, 12), normal(3, 5, 9), 4, MASK)
    with pytest.raises(ValueError, match="the student has 2 heads and the teacher 4"):
        attention_kl(normal(3, 2, 5, 5), normal(3, 4, 5, 5), MASK)


def test_divergence_is_its_definition_over_real_tokens() -> None:
    student, teacher = normal(3, 2, 5, 5), 3 * normal(3, 2, 5, 5, seed=1)
    expected = kl_by_hand(student, teacher, MASK)
    assert attention_kl(student, teacher, MASK).item() == pytest.approx(expected, rel=1e-12)
    assert attention_kl(teacher, teacher + 7, MASK).item() == pytest.approx(0, abs=1e-12)


def test_scores_in_half_precision_are_compared_in_float32() -> None:
    student, teacher = normal(3, 2, 5, 5).half(), normal(3, 2, 5, 5, seed=1).half()
    found = attention_kl(student, teacher, MASK)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(kl_by_hand(student, teacher, MASK), rel=1e-5)


def test_what_stands_at_padding_does_not_reach_value_or_gradient() -> None:
    def value_and_gradient(garbage: float) -> tuple[Tensor, Tensor]:
        query = normal(3, 5, 8).masked_fill(~MASK.bool()[:, :, None], garbage).requires_grad_()
        key = normal(3, 5, 8, seed=1).masked_fill(~MASK.bool()[:, :, None], garbage)
        loss = attention_kl(attention_scores(query, key, 2, MASK), normal(3, 2, 5, 5, seed=2), MASK)
        return loss.detach(), torch.autograd.grad(loss, query)[0]

    loss, gradient = value_and_gradient(0.0)
    for garbage in (1e4, float("nan")):
        found, slope = value_and_gradient(garbage)
        assert torch.equal(found, loss)
        assert torch.equal(slope, gradient)
    assert (gradient[1, 3:] == 0).all()


def test_extreme_scores_stay_finite() -> None:
    student = (1e4 * normal(3, 2, 5, 5)).float().requires_grad_()
    loss = attention_kl(student, -student.detach(), MASK)
    (gradient,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert loss > 100


def test_gradients_are_those_of_differences() -> None:
    student = normal(3, 2, 5, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention_kl(x, normal(3, 2, 5, 5, seed=1), MASK), student)


def test_a_batch_of_padding_alone_teaches_nothing() -> None:
    student = normal(1, 2, 5, 5).requires_grad_()
    loss = attention_kl(student, normal(1, 2, 5, 5, seed=1), NEVER)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert (gradient == 0).all()


def test_the_teachers_attention_is_the_weight_and_not_the_students() -> None:
    certain, unsure = torch.tensor([[[[9.0, 0.0], [9.0, 0.0]]]]), torch.zeros(1, 1, 2, 2)
    mask = torch.ones(1, 2)
    assert attention_kl(unsure, certain, mask).item() == pytest.approx(0.692, abs=2e-3)
    assert attention_kl(certain, unsure, mask).item() == pytest.approx(3.807, abs=2e-3)
