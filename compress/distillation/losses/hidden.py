"""Distillation of a transformer's hidden states."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.numerics import unit, wide


def hidden_mse(student_states: Tensor, teacher_states: Tensor, mask: Tensor | None) -> Tensor:
    """Mean squared difference over the real tokens and their width, a scalar.

    Jiao et al. 2020, "TinyBERT", eq. 8, whose matrix W_h is a `Projector`. What stands in padding does not matter.

    Args:
        student_states: (examples, tokens, width).
        teacher_states: of the same shape.
        mask: (examples, tokens), 1 for real tokens and 0 for padding; None where all are real.
    """
    student, teacher = _real(wide(student_states), mask), _real(wide(teacher_states), mask)
    return _mean((student - teacher).square().mean(-1), mask)


def hidden_cosine(student_states: Tensor, teacher_states: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of 1 - cos(student, teacher) over the real tokens, a scalar in [0, 2].

    Sanh et al. 2019, "DistilBERT", section 2 (the cosine embedding loss). Half the squared distance of unit vectors,
    by which Sun et al. 2019, "Patient Knowledge Distillation", compare states.

    Args:
        student_states: (examples, tokens, width).
        teacher_states: of the same shape.
        mask: (examples, tokens), 1 for real tokens and 0 for padding; None where all are real.
    """
    student, teacher = unit(_real(student_states, mask)), unit(_real(teacher_states, mask))
    return _mean(1 - (student * teacher).sum(-1), mask)


def _real(states: Tensor, mask: Tensor | None) -> Tensor:
    """The states with zeros in padding, so that not even NaN in it reaches values and gradients."""
    return states if mask is None else states.masked_fill((mask == 0)[..., None], 0)


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of (examples, tokens) over real tokens; 0 where none is real."""
    if mask is None:
        return values.mean()
    return values.masked_fill(mask == 0, 0).sum() / (mask != 0).sum().clamp_min(1)
