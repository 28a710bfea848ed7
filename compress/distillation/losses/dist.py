"""Distillation of relations: correlation in place of equality."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.distillation.losses.probabilities import log_probabilities


def dist(student_logits: Tensor, teacher_logits: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    """T^2 times beta (1 - r over the classes of a row) + gamma (1 - r over the rows of a class), r being Pearson's.

    Huang et al. 2022, "Knowledge Distillation from a Stronger Teacher": r of the probabilities softmax(logits /
    T), its mean over rows (inter-class) and over classes (intra-class). Neither changes when a row's, or a class's,
    probabilities are scaled and shifted, so a student need not be as sure as a strong teacher. The factor T^2 is that
    of `kl`; at T = 1 this is the loss of the authors' code.

    Args:
        student_logits: (rows, classes).
        teacher_logits: of the same shape.
        beta: weight of the inter-class part.
        gamma: weight of the intra-class part.
        temperature: T, over 0.
    """
    student = log_probabilities(student_logits, temperature).exp()
    teacher = log_probabilities(teacher_logits, temperature).exp()
    inter_class = 1 - _correlation(student, teacher, dim=1).mean()
    intra_class = 1 - _correlation(student, teacher, dim=0).mean()
    return temperature**2 * (beta * inter_class + gamma * intra_class)


def _correlation(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    """Pearson's correlation along `dim`, which is left out of the result."""
    student, student_constant = _standard(student, dim)
    teacher, teacher_constant = _standard(teacher, dim)
    correlation = (student * teacher).sum(dim)
    # A constant has no correlation. A constant student misses all that the teacher varies: 0. A constant teacher (or a
    # single row, over rows) has nothing to teach: as if reached, without a gradient.
    return correlation.masked_fill(student_constant, 0.0).masked_fill(teacher_constant, 1.0)


def _standard(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Less their mean and at length 1; and which are constant but for rounding, or too small to be divided by."""
    centered = values - values.mean(dim, keepdim=True)
    # Divided by the greatest first: squares of small probabilities would be 0 in float32.
    greatest = centered.detach().abs().amax(dim, keepdim=True)
    precision = torch.finfo(values.dtype)
    rounding = 8 * precision.eps * values.detach().abs().amax(dim, keepdim=True)
    constant = greatest <= rounding.clamp(min=precision.tiny / precision.eps)
    scaled = centered / greatest.masked_fill(constant, 1.0)
    length = torch.linalg.vector_norm(scaled, dim=dim, keepdim=True).masked_fill(constant, 1.0)
    return scaled / length, constant.squeeze(dim)
