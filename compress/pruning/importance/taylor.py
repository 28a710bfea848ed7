"""What a unit is worth by the first-order change of the loss when it goes.

Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning", CVPR 2019
(arXiv:1906.10771), equation 8, whose terms are summed over the unit before the size is taken: |sum over s of g_s w_s|.
Zeroing the weights w of a unit changes the loss by -sum(g w) to first order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compress.pruning.importance.unit_sum import unit_sum


def taylor(weights: Sequence[Tensor], gradients: Sequence[Tensor], units: Sequence[Tensor], count: int) -> Tensor:
    """The size of the loss's first-order change for each unit.

    Args:
        weights: For each tensor of a group its slices along the channels, (slices, numbers in one).
        gradients: The loss's gradient of the same, in the same shapes.
        units: For each tensor the unit of each slice, int64 (slices,).
        count: Units in all.

    Returns:
        (count,), float64, in the unit of the loss.
    """
    return unit_sum(torch.mul, zip(weights, gradients, strict=True), units, count).abs()
