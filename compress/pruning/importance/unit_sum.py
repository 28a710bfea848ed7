"""Adding up over each unit, in float64, what is computed from slices of several tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from compress.floats import widest

AT_ONCE = 2**18
"""Numbers of a tensor that are widened to float64 at a time: they stay in a processor's cache."""


def unit_sum(
    term: Callable[..., Tensor], tensors: Iterable[tuple[Tensor, ...]], units: Sequence[Tensor], count: int
) -> Tensor:
    """The sum of each unit's terms.

    Args:
        term: From parts of the tensors of one entry, in the widest floats and of one shape, to its terms in that shape.
        tensors: For each tensor of a group what terms are made of, each (slices, numbers in one): slices are along the
            channels.
        units: For each tensor the unit of each slice, int64 (slices,).
        count: Units in all.

    Returns:
        (count,), float64, on the CPU.
    """
    total = torch.zeros(count, dtype=torch.float64)
    for entry, unit in zip(tensors, units, strict=True):
        slices, numbers = entry[0].shape
        step = max(1, AT_ONCE // max(1, numbers))
        for start in range(0, slices, step):
            terms = term(*(tensor[start : start + step].to(widest(tensor.device)) for tensor in entry))
            total.index_add_(0, unit[start : start + step], terms.sum(1).cpu().double())
    return total
