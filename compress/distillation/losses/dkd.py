"""KL taken apart: how sure of the right class, and how the others compare."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.probabilities import log_probabilities


def dkd(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """T^2 (alpha TCKD + beta NCKD), the mean over rows; 0 where both give the same classes.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", section 3. `kl` weighs NCKD by the share that the teacher
    gives to wrong classes, so little is learned of them where the teacher is sure; here the weight is the same for all.

    Args:
        student_logits: (rows, classes), two classes or more.
        teacher_logits: of the same shape.
        targets: (rows,), the right class's number.
        alpha: weight of the target class's part.
        beta: weight of the other classes' part.
        temperature: T, over 0.
    """
    target_part, other_part = dkd_parts(student_logits, teacher_logits, targets, temperature)
    return temperature**2 * (alpha * target_part + beta * other_part).mean()


def dkd_parts(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of each row, both (rows,): KL of (target, any other), and KL among the other classes alone.

    TCKD + (1 - teacher's probability of the target) NCKD is the row's KL(teacher || student). No factor T^2.

    Args:
        student_logits: (rows, classes), two classes or more.
        teacher_logits: of the same shape.
        targets: (rows,), the right class's number.
        temperature: T, over 0.
    """
    student, student_others = _split(log_probabilities(student_logits, temperature), targets)
    teacher, teacher_others = _split(log_probabilities(teacher_logits, temperature), targets)
    return (teacher.exp() * (teacher - student)).sum(1), (teacher_others.exp() * (teacher_others - student_others)).sum(
        1
    )


def _split(logarithms: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log of (target, any other), (rows, 2), and of the other classes among themselves, 0 at the target."""
    of_target = targets.unsqueeze(1)
    others = logarithms.scatter(1, of_target, -torch.inf)
    # Not log(1 - p): where the target's p rounds to 1 this is still finite, and so is every difference of logarithms.
    any_other = others.logsumexp(1, keepdim=True)
    pair = torch.cat([logarithms.gather(1, of_target), any_other], dim=1)
    # 0 and not -inf at the target: there the difference of student and teacher must be 0, and -inf minus -inf is not.
    return pair, functional.log_softmax(others, dim=1).scatter(1, of_target, 0.0)
