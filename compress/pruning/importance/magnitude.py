"""What a unit is worth by the size of its weights.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017 (arXiv:1608.08710), section 3.1,
taken over all the weights that would go together, as in DepGraph (arXiv:2301.12900), equation 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from compress.pruning.importance.unit_sum import unit_sum


def magnitude(weights: Sequence[Tensor], units: Sequence[Tensor], count: int, norm: int) -> Tensor:
    """The L1 or L2 norm of each unit's weights.

    Args:
        weights: For each tensor of a group its slices along the channels, (slices, numbers in one).
        units: For each tensor the unit of each slice, int64 (slices,).
        count: Units in all.
        norm: 1 or 2.

    Returns:
        (count,), in the unit of the weights.
    """
    return unit_sum(lambda weight: weight.abs().pow(norm), ((weight,) for weight in weights), units, count).pow(
        1 / norm
    )
