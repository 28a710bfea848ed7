"""Logits without their scale, for any loss that compares them."""

from __future__ import annotations

import torch
from torch import Tensor

from compress.distillation.losses.numerics import wide

EPSILON = 1e-7


def standardize(logits: Tensor) -> Tensor:
    """Each row less its mean, divided by its standard deviation: (rows, classes), in float32 or wider.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation": given to a loss for student and teacher alike,
    the student learns how classes compare and need not reach the teacher's range. The deviation is that of a sample
    (division by classes - 1) and the epsilon is added to it, as in the authors' code.

    Args:
        logits: (rows, classes), two classes or more.
    """
    logits = wide(logits)
    deviation, mean = torch.std_mean(logits, dim=1, keepdim=True)
    # Equal logits have no deviation: the row is 0, every class alike, as it was.
    return (logits - mean) / (deviation + EPSILON)
