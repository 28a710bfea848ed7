"""What the losses between features share: wide sums, directions, inner products."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(tensor: Tensor) -> Tensor:
    """The tensor in at least float32: squares of fp16 numbers overflow from 256 on."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def unit(vectors: Tensor) -> Tensor:
    """Vectors along the last axis scaled to length 1, in at least float32.

    A vector of zeros has no direction: it stays zero and gets no gradient (`functional.normalize` gives it 1e12 times
    the incoming one).

    Args:
        vectors: (..., width).
    """
    vectors = wide(vectors)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return torch.where(length > 0, vectors / length.masked_fill(length == 0, 1), 0)


def inner_products(first: Tensor, second: Tensor) -> Tensor:
    """The inner product of every row of `first` with every row of `second`, (..., m, n), in at least float32.

    Under autocast too: differences of similarities are smaller than a step of bf16.

    Args:
        first: (..., m, width).
        second: (..., n, width).
    """
    with torch.autocast(first.device.type, enabled=False):
        return wide(first) @ wide(second).mT
