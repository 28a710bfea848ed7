"""A bounded divergence between the two directions of KL."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compress.distillation.losses.probabilities import log_probabilities


def generalized_jsd(student_logits: Tensor, teacher_logits: Tensor, beta: float, temperature: float) -> Tensor:
    """Of P the teacher and Q the student: beta KL(P || M) + (1 - beta) KL(Q || M) with M = beta P + (1 - beta) Q.

    The mean over rows, of softmax(logits / T). Agarwal et al. 2024, "On-Policy Distillation of Language Models",
    section 2. It is 0 at agreement and at most -beta log beta - (1 - beta) log(1 - beta), which is log 2 at beta = 0.5;
    for this bound there is no factor T^2. Divided by beta it tends to KL(teacher || student) as beta goes to 0, divided
    by 1 - beta to KL(student || teacher) as beta goes to 1: towards either end the loss needs a larger weight.

    Args:
        student_logits: (rows, classes).
        teacher_logits: of the same shape.
        beta: the teacher's share of M, over 0 and under 1.
        temperature: T, over 0.

    Raises:
        ValueError: beta is not between 0 and 1; at the ends the loss would be 0 for every student.
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta is {beta}: it must be over 0 and under 1")
    student = log_probabilities(student_logits, temperature)
    teacher = log_probabilities(teacher_logits, temperature)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    of_teacher = (teacher.exp() * (teacher - mixture)).sum(1)
    of_student = (student.exp() * (student - mixture)).sum(1)
    return (beta * of_teacher + (1 - beta) * of_student).mean()
