"""Distillation of softened classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.probabilities import log_probabilities


def kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of softmax(logits / T), the mean over rows; 0 where both give the same classes.

    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2: the cross-entropy of soft
    targets differs from this by the teacher's entropy, which has no gradient. The factor T^2 keeps gradients as large
    as those of hard labels whatever the temperature.

    Args:
        student_logits: (rows, classes).
        teacher_logits: of the same shape.
        temperature: T, over 0.
    """
    student = log_probabilities(student_logits, temperature)
    teacher = log_probabilities(teacher_logits, temperature)
    return temperature**2 * functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1).mean()
