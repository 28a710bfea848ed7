"""What a unit is worth by the size of its weights against those that would outlive it.

Lee, Park, Mo, Ahn, Shin, "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021 (arXiv:2010.07611),
equation 4, with the squared norms of whole units in place of squared weights. The largest unit of each group scores 1,
so scores of different groups compare as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lamp(norms: Tensor) -> Tensor:
    """Each unit's squared norm over the sum of its own and those of all that come after it, in order of size.

    Args:
        norms: The L2 norm of each unit's weights, (count,); equal ones come in the order of the units.

    Returns:
        (count,), float64, from 0 to 1; all zero if the norms are.
    """
    squares = norms.double().square()
    order = torch.argsort(squares, stable=True)
    rising = squares[order]
    outliving = rising.flip(0).cumsum(0).flip(0)
    shares = torch.where(rising > 0, rising / outliving, 0.0)  # 0 / 0 where nothing larger is left
    return torch.empty_like(shares).index_copy_(0, order, shares)
