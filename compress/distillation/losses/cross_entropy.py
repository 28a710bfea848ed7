"""The student's own labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(student_logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean of -log softmax(logits)[target], a scalar.

    With smoothing e the target is 1 - e plus e spread over all classes (Szegedy et al. 2016, section 7).

    Args:
        student_logits: (examples, classes, ...).
        targets: (examples, ...), class numbers.
        label_smoothing: e, in [0, 1).
    """
    return functional.cross_entropy(student_logits, targets, label_smoothing=label_smoothing)
