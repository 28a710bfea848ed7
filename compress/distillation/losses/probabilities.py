"""Softened probabilities, which most of the losses start from."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.numerics import wide


def log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Logarithm of softmax(logits / T) over the classes, in float32 or wider.

    Half precision keeps two to three digits, and a divergence is a difference of such logarithms: it would be noise.

    Args:
        logits: (rows, classes).
        temperature: T, over 0.
    """
    return functional.log_softmax(wide(logits) / temperature, dim=1)
