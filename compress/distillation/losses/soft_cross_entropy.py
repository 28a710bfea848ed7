"""Cross-entropy with the teacher's softened classes as labels."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.probabilities import log_probabilities


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 times -sum p_teacher log p_student of softmax(logits / T), the mean over rows.

    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2. It is `kl` plus T^2 times
    the teacher's entropy: the gradient is the same, the value at agreement is that entropy and not 0.

    Args:
        student_logits: (rows, classes).
        teacher_logits: of the same shape.
        temperature: T, over 0.
    """
    student = log_probabilities(student_logits, temperature)
    teacher = log_probabilities(teacher_logits, temperature).exp()
    return -(temperature**2) * (teacher * student).sum(1).mean()
