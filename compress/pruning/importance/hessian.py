"""What a unit is worth by the second-order change of the loss when it goes.

LeCun, Denker, Solla, "Optimal Brain Damage", NeurIPS 1989: at a minimum of the loss, deleting weight k raises it by its
saliency s_k = h_kk w_k^2 / 2, where h_kk is the diagonal of the Hessian. For a loss that is minus the logarithm of a
probability, the empirical Fisher information, the mean of squared gradients, stands for it, as in Theis, Korshunova,
Tejani, Huszar, "Faster gaze prediction with dense networks and Fisher pruning", 2018 (arXiv:1801.05787).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from compress.pruning.importance.unit_sum import unit_sum


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
    pairs = zip(weights, gradients, strict=True)
    return unit_sum(lambda weight, gradient: (weight * gradient).square(), pairs, units, count) / 2
