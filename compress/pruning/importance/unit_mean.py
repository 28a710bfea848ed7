"""From values of channels, in several places of a group, to one value for each of its units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def unit_mean(values: Sequence[Tensor], units: Sequence[Tensor], count: int) -> Tensor:
    """The mean over the channels of each unit in a place, and of that the mean over the places that hold the unit.

    Args:
        values: For each place one value for each of its channels, (channels,).
        units: For each place the unit of each channel, int64 (channels,).
        count: Units in all.

    Returns:
        (count,), float64; nan for a unit that no place holds.
    """
    means = [torch.full((count,), torch.nan, dtype=torch.float64)]  # the answer where there is no place at all
    for value, unit in zip(values, units, strict=True):
        total = torch.zeros(count, dtype=torch.float64).index_add_(0, unit, value.detach().cpu().double())
        means.append(total / torch.bincount(unit, minlength=count))  # 0 / 0 for units that are not in this place
    return torch.stack(means).nanmean(0)
