"""Distillation of the relations between a batch's examples: distances and angles."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from compress.distillation.losses.numerics import inner_products, unit, wide


def rkd_distance(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Huber loss between distances of pairs, in units of each network's mean distance; mean over pairs, a scalar.

    Park et al. 2019, "Relational Knowledge Distillation", section 3.2.1, which has the sum. It does not see rotations,
    shifts and scales of either side.

    Args:
        student_embeddings: (examples, width).
        teacher_embeddings: (examples, any width).
    """
    if len(student_embeddings) < 2:
        return 0 * wide(student_embeddings).sum()  # no pair
    return functional.smooth_l1_loss(_distances(student_embeddings), _distances(teacher_embeddings))


def rkd_angle(student_embeddings: Tensor, teacher_embeddings: Tensor) -> Tensor:
    """Huber loss between cosines of the angles that triplets span; mean over triplets, a scalar.

    Park et al. 2019, "Relational Knowledge Distillation", section 3.2.2, which has the sum: the angle at i between
    j and k, for all distinct i, j and k. It does not see rotations, shifts and scales of either side. Memory grows
    with examples^3 and with examples^2 times width.

    Args:
        student_embeddings: (examples, width).
        teacher_embeddings: (examples, any width).
    """
    examples = len(student_embeddings)
    if examples < 3:
        return 0 * wide(student_embeddings).sum()  # no triplet
    losses = functional.smooth_l1_loss(_cosines(student_embeddings), _cosines(teacher_embeddings), reduction="none")
    other = ~torch.eye(examples, dtype=torch.bool, device=losses.device)
    distinct = other[:, :, None] & other[:, None, :] & other[None, :, :]
    return (losses * distinct).sum() / (examples * (examples - 1) * (examples - 2))


def _distances(embeddings: Tensor) -> Tensor:
    """(pairs,); the distance of coincident points is 0 and has no gradient."""
    distances = functional.pdist(wide(embeddings))
    mean = distances.mean()
    return distances / torch.where(mean > 0, mean, 1)  # all points coincide: all distances are 0


def _cosines(embeddings: Tensor) -> Tensor:
    """(i, j, k): at i between j and k. Coincident points span no angle: their cosine is 0 and has no gradient."""
    embeddings = wide(embeddings)
    directions = unit(embeddings[None, :] - embeddings[:, None])
    return inner_products(directions, directions)
