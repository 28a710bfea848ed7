"""What a unit is worth by how strongly it answers.

Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource Efficient Inference", ICLR
2017 (arXiv:1611.06440), section 2.2, criterion "activation": the mean of a feature map, after its rectifier, over
positions and examples; of its size here, which for a rectifier is the same and serves other activation functions too.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from compress.pruning.importance.unit_mean import unit_mean
from compress.pruning.selection import normalised


def activation(sizes: Sequence[Tensor], units: Sequence[Tensor], count: int) -> Tensor:
    """The mean size of each unit's channels over that of all in the place, over the places where the unit is read.

    Args:
        sizes: For each place where a group is read the mean |a| of each of its channels, (channels,).
        units: For each place the unit of each channel, int64 (channels,).
        count: Units in all.

    Returns:
        (count,), float64, near 1 (0 where all are silent); nan for a unit that is read nowhere.
    """
    return unit_mean([normalised(size) for size in sizes], units, count)
