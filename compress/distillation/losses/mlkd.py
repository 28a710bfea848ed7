"""Distillation of predictions, of how examples relate, and of how classes relate, at several temperatures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compress.distillation.losses.kl import kl
from compress.distillation.losses.numerics import inner_products
from compress.distillation.losses.probabilities import log_probabilities


def mlkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Sequence[float],
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Sum over temperatures of instance-level, batch-level and class-level differences; 0 where both agree.

    Jin, Wang and Lin 2023, "Multi-Level Logit Distillation", with p = softmax(logits / T) of shape (rows,
    classes): instance level is `kl`, T^2 included; batch level the squared difference of the rows' products p p^T,
    summed and divided by the rows; class level that of the classes' products p^T p, summed and divided by the classes.
    Only the first is multiplied by T^2, and all weigh the same, as in the authors' code; its temperatures are 2 to 6.

    That code also multiplies some terms by masks of the half of the examples, or classes, that the teacher is least
    sure of, but only after the term has been summed: a mask comes to a factor of about a half for the whole term. They
    are left out here. With few classes the products are large: where students answer at random, batch level goes with
    rows / classes and class level with (rows / classes)^2, so that weights found with 100 classes are about 10 and 100
    times too large with 10. The two augmented views of a batch are the caller's. Memory grows with rows squared plus
    classes squared: this is a loss for hundreds or thousands of classes, not for a vocabulary.

    Args:
        student_logits: (rows, classes).
        teacher_logits: of the same shape.
        temperatures: one or more, each over 0.
        weights: of instance, batch and class level.

    Raises:
        ValueError: there is no temperature.
    """
    if not temperatures:
        raise ValueError("mlkd needs one temperature or more")
    sums = [_level_sum(student_logits, teacher_logits, temperature, weights) for temperature in temperatures]
    return torch.stack(sums).sum()


def _level_sum(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, weights: tuple[float, float, float]
) -> Tensor:
    student = log_probabilities(student_logits, temperature).exp()
    teacher = log_probabilities(teacher_logits, temperature).exp()
    rows, classes = student.shape
    of_rows = inner_products(student, student) - inner_products(teacher, teacher)
    of_classes = inner_products(student.T, student.T) - inner_products(teacher.T, teacher.T)
    instance, batch, by_class = weights
    levels = batch * of_rows.square().sum() / rows + by_class * of_classes.square().sum() / classes
    return instance * kl(student_logits, teacher_logits, temperature) + levels
