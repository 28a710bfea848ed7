"""What a unit is worth by how little the other filters of its layers could stand in for it.

He, Liu, Wang, Hu, Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks Acceleration", CVPR
2019 (arXiv:1811.00250): the filter x with the least sum over the filters y of its layer of ||x - y||, which is the one
nearest to their geometric median, goes first. Filters that are alike go early even if they are large.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compress.floats import widest
from compress.pruning.importance.unit_mean import unit_mean
from compress.pruning.selection import normalised


def fpgm(filters: Sequence[Tensor], units: Sequence[Tensor], count: int) -> Tensor:
    """Each filter's sum of Euclidean distances from its layer's others, over their mean; of that the mean by unit.

    Args:
        filters: For each layer that writes a group its filters, (filters, numbers in one).
        units: For each layer the unit of each filter, int64 (filters,).
        count: Units in all.

    Returns:
        (count,), float64, of mean about 1; nan for a unit that no layer writes.
    """
    rows = [layer.to(widest(layer.device)) for layer in filters]
    return unit_mean([normalised(torch.cdist(layer, layer).sum(1)) for layer in rows], units, count)
