"""Distillation of one layer's self-attention, head by head."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.attention_scores import attention_kl, attention_scores, key_heads_of


def minilm(
    student_qkv: tuple[Tensor, Tensor, Tensor],
    teacher_qkv: tuple[Tensor, Tensor, Tensor],
    student_heads: int,
    teacher_heads: int,
    mask: Tensor,
    causal: bool = False,
) -> Tensor:
    """KL(teacher || student) of attention distributions plus that of value relations, a scalar; 0 where both are equal.

    Wang et al. 2020, "MiniLM", sections "Self-Attention Distribution Transfer" and "Self-Attention Value-Relation
    Transfer": softmax(Q K / sqrt(d)) and softmax(V V / sqrt(d)) of the last layer, each the mean over heads and queries
    (here over all real tokens of the batch). Widths of heads may differ. Where heads share keys and values, each head
    counts with the values that it sees.

    Args:
        student_qkv: projected queries, keys and values, each (examples, tokens, width).
        teacher_qkv: as the student's, of any width.
        student_heads: heads of the student's queries.
        teacher_heads: heads of the teacher's queries.
        mask: (examples, tokens), 1 = a real token.
        causal: whether a query sees no key behind its own place; holds for the relations of values too.

    Raises:
        ValueError: the numbers of heads differ, or widths cannot be split into them.
    """
    student_attention, student_values = _attention_and_values(student_qkv, student_heads, mask, causal)
    teacher_attention, teacher_values = _attention_and_values(teacher_qkv, teacher_heads, mask, causal)
    attention = attention_kl(student_attention, teacher_attention, mask)
    return attention + attention_kl(student_values, teacher_values, mask)


def _attention_and_values(
    qkv: tuple[Tensor, Tensor, Tensor], heads: int, mask: Tensor, causal: bool
) -> tuple[Tensor, Tensor]:
    """Scores of queries with keys and of values with values, each (examples, heads, tokens, tokens)."""
    query, key, value = qkv
    attention = attention_scores(query, key, heads, mask, causal=causal)
    value_heads = key_heads_of(query, key, heads)
    values = attention_scores(value, value, value_heads, mask, causal=causal)
    return attention, values.repeat_interleave(heads // value_heads, dim=1)
