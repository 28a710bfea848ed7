"""What a unit is worth by the scale that batch norm gives it.

Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017
(arXiv:1708.06519), section 3: |gamma| of a channel, compared over the whole network as it is. It says most of networks
that were trained with an L1 penalty on gamma.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from compress.pruning.importance.unit_mean import unit_mean


def batch_norm(scales: Sequence[Tensor], units: Sequence[Tensor], count: int) -> Tensor:
    """The mean size of each unit's scales, over the norms that hold the unit.

    Args:
        scales: For each batch norm of a group its gamma for the group's channels, (channels,).
        units: For each batch norm the unit of each channel, int64 (channels,).
        count: Units in all.

    Returns:
        (count,), float64; nan for a unit that no norm holds.
    """
    return unit_mean([scale.abs() for scale in scales], units, count)
