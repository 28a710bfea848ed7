"""Distillation of attention before its softmax."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.attention_scores import require_equal_heads, visible_keys
from compress.distillation.losses.numerics import wide


def attention_mse(student_scores: Tensor, teacher_scores: Tensor, mask: Tensor, causal: bool = False) -> Tensor:
    """Mean squared difference of attention scores over heads and pairs of real tokens, a scalar.

    Jiao et al. 2020, "TinyBERT", eq. 7: the unnormalized matrices are fitted, not their softmax. The authors' code
    takes scores of -100 and less for padding and sets them to 0, so that padding makes the mean smaller; here `mask`
    says what padding is, and the mean is over pairs of real tokens.

    Args:
        student_scores: (examples, heads, tokens, tokens), before the softmax.
        teacher_scores: of the same shape.
        mask: (examples, tokens), 1 = a real token.
        causal: whether keys behind a query's own place were hidden from it, and do not count.

    Raises:
        ValueError: the numbers of heads differ.
    """
    require_equal_heads(student_scores, teacher_scores)
    pairs = visible_keys(mask, causal) & mask.bool()[:, None, :, None]
    difference = (wide(student_scores) - wide(teacher_scores)).masked_fill(~pairs, 0)
    # A batch of padding alone has no pair: the sum over none is 0, and so is the loss.
    return difference.square().sum() / (pairs.sum() * student_scores.shape[1]).clamp(min=1)
