"""Distillation of the relations between tokens, whatever the models' own heads."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.attention_scores import attention_kl, attention_scores


def relations(vectors: Tensor, relation_heads: int, mask: Tensor, causal: bool = False) -> Tensor:
    """Scaled dot products of vectors with each other, before the softmax, (examples, relation heads, tokens, tokens).

    Wang et al. 2021, "MiniLMv2", section "Multi-Head Self-Attention Relation Distillation": the heads of the model are
    laid side by side, as they are in its projection, and split anew into `relation_heads`.

    Args:
        vectors: queries, keys or values of all heads, (examples, tokens, width).
        relation_heads: into how many parts the width is split.
        mask: (examples, tokens), 1 = a real token.
        causal: whether a token is related to none behind its own place.

    Raises:
        ValueError: the width is no multiple of `relation_heads`.
    """
    if relation_heads < 1 or vectors.shape[-1] % relation_heads:
        raise ValueError(f"a width of {vectors.shape[-1]} cannot be split into {relation_heads} relation heads")
    return attention_scores(vectors, vectors, relation_heads, mask, causal=causal)


def minilm_v2(
    student_qkv: tuple[Tensor, Tensor, Tensor],
    teacher_qkv: tuple[Tensor, Tensor, Tensor],
    relation_heads: int,
    mask: Tensor,
    causal: bool = False,
) -> Tensor:
    """Sum of KL(teacher || student) of softmax(relations), a scalar; 0 where all relations are equal.

    Wang et al. 2021, "MiniLMv2", section "Multi-Head Self-Attention Relation Distillation": relations of queries, of
    keys and of values of one layer, each the mean over relation heads and real tokens.

    Args:
        student_qkv: projected queries, keys and values, each (examples, tokens, width).
        teacher_qkv: as the student's, of any width and any number of heads.
        relation_heads: into how many parts each width is split; may differ from the heads of both.
        mask: (examples, tokens), 1 = a real token.
        causal: whether a token is related to none behind its own place.

    Raises:
        ValueError: a width is no multiple of `relation_heads`.
    """
    terms = [
        attention_kl(
            relations(student, relation_heads, mask, causal), relations(teacher, relation_heads, mask, causal), mask
        )
        for student, teacher in zip(student_qkv, teacher_qkv, strict=True)
    ]
    return terms[0] + terms[1] + terms[2]
