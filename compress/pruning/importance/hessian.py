"""What a unit is worth by the second-order change of the loss when it goes.

LeCun, Denker, Solla, "Optimal Brain Damage", NeurIPS 1989: at a minimum of the loss, deleting weight k raises it by its
saliency s_k = h_kk w_k^2 / 2, where h_kk is the diagonal of the Hessian. For a loss that is minus the logarithm of a
probability, the empirical Fisher information, the mean of squared gradients, stands for it, as in Theis, Korshunova,
Tejani, Huszar, "Faster gaze prediction with dense networks and Fisher pruning", 2018 (arXiv:1801.05787).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def hessian(weights: Sequence[Tensor], gradients: Sequence[Tensor], units: Sequence[Tensor], count: int) -> Tensor:
    """One gradient's part in the loss's second-order change for each unit: the sum over its weights of (g w)^2 / 2.

    The mean of it over gradients of single examples has the Fisher diagonal in place of h. Over batches of n examples
    at a minimum it is that over n, the same for all units.

    Args:
        weights: For each tensor of a group its slices along the channels, (slices, numbers in one).
        gradients: The loss's gradient of the same, in the same shapes.
        units: For each tensor the unit of each slice, int64 (slices,).
        count: Units in all.

    Returns:
        (count,), float64, in the unit of the loss, as far as Fisher information is the Hessian.
    """
    change = torch.zeros(count, dtype=torch.float64)
    for weight, gradient, unit in zip(weights, gradients, units, strict=True):
        change.index_add_(0, unit, (weight.double() * gradient.double()).square().sum(1).cpu() / 2)
    return change
