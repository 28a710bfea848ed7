"""Distillation of the probability that one example of a batch picks another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.numerics import inner_products, unit

_SMALLEST = 1e-7
"""The kernel of opposite vectors is 0, and with it a probability whose logarithm is asked for."""


def pkt(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """KL(teacher || student) of the probabilities that example i picks example j, mean over i, in nats, a scalar.

    Passalis and Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer", section 3, with the
    cosine kernel K(a, b) = (cos(a, b) + 1) / 2: example i picks j != i with probability K(i, j) / sum over k != i of
    K(i, k). The paper sums over i; the authors' code counts an example as its own neighbour too and divides by
    examples^2, so that its values are about `examples` times smaller and its weights as much larger.

    Args:
        student_features: (examples, ...).
        teacher_features: (examples, ...), of any shape behind the examples.
    """
    student, teacher = _log_probabilities(student_features), _log_probabilities(teacher_features)
    return functional.kl_div(student, teacher, reduction="sum", log_target=True) / len(student)


def _log_probabilities(features: Tensor) -> Tensor:
    directions = unit(features.flatten(1))
    kernel = ((inner_products(directions, directions) + 1) / 2).clamp_min(_SMALLEST)
    others = ~torch.eye(len(kernel), dtype=torch.bool, device=kernel.device)
    # A single example has nobody to pick: an empty row, whose divergence is 0.
    return functional.log_softmax(kernel[others].view(len(kernel), len(kernel) - 1).log(), dim=1)
