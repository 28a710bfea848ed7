"""Distillation of which examples of a batch are alike."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.numerics import inner_products, unit


def similarity_preserving(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """||G_student - G_teacher||_F^2 / examples^2 of Gram matrices with rows of length 1, a scalar.

    Tung and Mori 2019, "Similarity-Preserving Knowledge Distillation", eq. 4. It is 0 where both networks find the
    same examples alike; it does not see rotations and scales of the features.

    Args:
        student_features: (examples, ...).
        teacher_features: (examples, ...), of any shape behind the examples.
    """
    return (_similarities(student_features) - _similarities(teacher_features)).square().mean()


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    # The row of an example without any activation is zero: it is like nothing.
    return unit(inner_products(flat, flat))
