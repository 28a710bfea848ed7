"""Scores of self-attention from projected queries and keys, and the divergence of what two models attend to."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.numerics import wide


def attention_scores(query: Tensor, key: Tensor, heads: int, mask: Tensor, causal: bool = False) -> Tensor:
    """Scaled dot products of queries and keys before the softmax, (examples, heads, tokens, tokens).

    Vaswani et al. 2017, section 3.2.1: q k / sqrt(width of a head). With fewer key heads than heads, successive heads
    share one (grouped-query attention, Ainslie et al. 2023, section 2.2). Keys that may not be seen get half the lowest
    number of the dtype: finite, and nothing after a softmax.

    Args:
        query: (examples, tokens, width), projected.
        key: (examples, tokens, width of a head times the keys' heads), projected.
        heads: heads of the queries.
        mask: (examples, tokens), 1 = a real token, 0 = padding.
        causal: whether a query sees no key behind its own place.

    Raises:
        ValueError: widths cannot be split so.
    """
    queries = split_heads(query, heads, mask)
    width = queries.shape[-1]
    keys = split_heads(key, key_heads_of(query, key, heads), mask)
    if heads % keys.shape[1]:
        raise ValueError(f"{heads} heads cannot share {keys.shape[1]} key heads")
    keys = keys.repeat_interleave(heads // keys.shape[1], dim=1)
    # Scaled before the product, which would overflow first in fp16.
    scores = (queries / sqrt(width)) @ keys.transpose(-1, -2)
    return scores.masked_fill(~visible_keys(mask, causal), torch.finfo(scores.dtype).min / 2)


def attention_kl(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor) -> Tensor:
    """Mean over heads and real queries of KL(teacher || student) of softmax(scores), a scalar; 0 where both are equal.

    Args:
        student_scores: (examples, heads, tokens, tokens), before the softmax.
        teacher_scores: of the same shape.
        mask: (examples, tokens), 1 = a real token. Padding is neither a query nor a key.

    Raises:
        ValueError: the numbers of heads differ.
    """
    require_equal_heads(student_scores, teacher_scores)
    student, teacher = _log_shares(student_scores, mask), _log_shares(teacher_scores, mask)
    total = functional.kl_div(student, teacher, reduction="sum", log_target=True)
    # A batch of padding alone has no query: the sum over none is 0, and so is the loss.
    return total / max(1, student.shape[0] * student.shape[1])


def split_heads(vectors: Tensor, heads: int, mask: Tensor) -> Tensor:
    """(examples, tokens, width) -> (examples, heads, tokens, width / heads), with zeros in place of padding.

    Raises:
        ValueError: the width is no multiple of `heads`.
    """
    examples, tokens, width = vectors.shape
    if heads < 1 or width % heads:
        raise ValueError(f"a width of {width} cannot be split into {heads} heads")
    # Values at padding are arbitrary, even infinite; a factor of 0 in a later product would not undo that.
    real = vectors.masked_fill(~mask.bool()[:, :, None], 0)
    return real.reshape(examples, tokens, heads, width // heads).transpose(1, 2)


def key_heads_of(query: Tensor, key: Tensor, heads: int) -> int:
    """How many heads as wide as a query's the keys hold, for `query` and `key` of (examples, tokens, width).

    Raises:
        ValueError: not a whole number of them.
    """
    found, rest = divmod(key.shape[-1] * heads, query.shape[-1])
    if rest or not found:
        raise ValueError(
            f"keys of width {key.shape[-1]} do not hold heads as wide as those of {heads} heads of queries "
            f"of width {query.shape[-1]}"
        )
    return found


def visible_keys(mask: Tensor, causal: bool) -> Tensor:
    """Which keys each query may see: truths of (examples, 1, 1 or tokens, tokens)."""
    real = mask.bool()[:, None, None, :]
    if not causal:
        return real
    tokens = mask.shape[1]
    return real & torch.ones(tokens, tokens, dtype=torch.bool, device=mask.device).tril()


def require_equal_heads(student_scores: Tensor, teacher_scores: Tensor) -> None:
    """Heads are compared one by one.

    Raises:
        ValueError: the numbers of heads differ.
    """
    if student_scores.shape[1] != teacher_scores.shape[1]:
        raise ValueError(
            f"the student has {student_scores.shape[1]} heads and the teacher {teacher_scores.shape[1]}: this loss "
            "compares head with head; minilm_v2 takes any numbers of heads"
        )


def _log_shares(scores: Tensor, mask: Tensor) -> Tensor:
    """Log of what each real query gives to each key, (real queries, heads, tokens)."""
    scores = wide(scores)
    seen = scores.masked_fill(~visible_keys(mask, causal=False), torch.finfo(scores.dtype).min / 2)
    return functional.log_softmax(seen.transpose(1, 2)[mask.bool()], dim=-1)
