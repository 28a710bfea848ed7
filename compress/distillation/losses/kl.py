"""Distillation of softened classes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of softmax(logits / T), a scalar; 0 where both give the same classes.

    Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2: the cross-entropy of soft
    targets differs from this by the teacher's entropy, which has no gradient. The factor T^2 keeps gradients as large
    as those of hard labels whatever the temperature.

    Args:
        student_logits: (examples, classes, ...); the mean is over examples and everything behind the classes.
        teacher_logits: of the same shape.
        temperature: over 0.
    """
    student = functional.log_softmax(student_logits / temperature, dim=1)
    teacher = functional.log_softmax(teacher_logits / temperature, dim=1)
    distributions = student.numel() / student.shape[1]
    total = functional.kl_div(student, teacher, reduction="sum", log_target=True)
    return total * (temperature**2 / distributions)
