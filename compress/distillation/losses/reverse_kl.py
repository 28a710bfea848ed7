"""Distillation that lets a student drop what it cannot copy."""

from __future__ import annotations

from torch import Tensor

from compress.distillation.losses.probabilities import log_probabilities


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 KL(student || teacher) of softmax(logits / T), the mean over rows; 0 where both give the same classes.

    `kl` punishes a student that misses some of the teacher's classes; this punishes classes that the teacher does not
    give, so a small student settles on the teacher's likeliest ones. Gu et al. 2024, "MiniLLM: Knowledge Distillation
    of Large Language Models", section 2; per token, as here: Agarwal et al. 2024, "On-Policy Distillation of Language
    Models", section 2.

    Args:
        student_logits: (rows, classes).
        teacher_logits: of the same shape.
        temperature: T, over 0.
    """
    student = log_probabilities(student_logits, temperature)
    teacher = log_probabilities(teacher_logits, temperature)
    return temperature**2 * (student.exp() * (student - teacher)).sum(1).mean()
