"""What a unit is worth by chance: what every other measure must beat.

Mittal, Bhardwaj, Khapra, Ravindran, "Recovering from Random Pruning", WACV 2018 (arXiv:1801.10447).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def random(counts: Sequence[int], seed: int) -> list[Tensor]:
    """Numbers drawn evenly from 0 to 1 for the units of each group; torch's own generator is neither read nor moved.

    Args:
        counts: Units of each group.
        seed: The same gives the same numbers.

    Returns:
        For each group (count,), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(count, dtype=torch.float64, generator=generator) for count in counts]
