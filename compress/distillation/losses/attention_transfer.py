"""Distillation of where a network looks."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.hint import match_sizes
from compress.distillation.losses.numerics import unit, wide


def attention_transfer(student_features: Tensor, teacher_features: Tensor, power: float = 2) -> Tensor:
    """Mean squared difference of attention maps, a scalar; 0 where both look alike, whatever their channels.

    Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", eq. 2: the map Q is the mean over channels of
    |A|^power, flattened and divided by its L2 norm. As in the authors' code the loss is the mean of squares over
    examples and positions; the equation has the norm of the difference. Maps of different sizes are pooled to the
    smaller one first.

    Args:
        student_features: (examples, channels, height, width).
        teacher_features: likewise, of any channels, height and width.
        power: p, at least 1; a larger one leaves the strongest activations only.
    """
    student, teacher = match_sizes(student_features, teacher_features)
    return functional.mse_loss(_attention(student, power), _attention(teacher, power))


def _attention(features: Tensor, power: float) -> Tensor:
    # A map of zeros, as behind a dead ReLU, looks nowhere and stays zero: see `unit`.
    return unit(wide(features).abs().pow(power).mean(1).flatten(1))
