"""Distillation of values."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.numerics import wide


def mse(student_outputs: Tensor, teacher_outputs: Tensor) -> Tensor:
    """Mean squared difference over all elements, in float32 or wider, a scalar.

    On logits this is the limit of distillation at high temperature (Ba and Caruana 2014; Hinton et al. 2015, eq. 4).

    Args:
        student_outputs: (examples, ...).
        teacher_outputs: of the same shape.
    """
    return functional.mse_loss(wide(student_outputs), wide(teacher_outputs))
