"""Distillation through knowledge review: shallow levels of the teacher teach all deeper levels of the student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.distillation.losses.hint import hint

_PYRAMID = (4, 2, 1)
"""Heights and widths to which maps are pooled besides their own."""


def hierarchical_context(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Hierarchical context loss, summed over levels, a scalar.

    Chen et al. 2021, "Distilling Knowledge via Knowledge Review" (HCL), with the weights of the authors' code: a
    level's loss is the weighted mean of the mean squared difference of its maps as they are (weight 1) and pooled to
    4x4, 2x2 and 1x1, each weighing half of the one before; sizes that are not below the maps' own are left out.

    Args:
        student_maps: of one or more levels, (examples, channels, height, width) each; see `ReviewConnections`.
        teacher_maps: as many, of the same shapes.

    Raises:
        ValueError: numbers of levels or shapes differ.
    """
    return torch.stack([_level(*pair) for pair in zip(student_maps, teacher_maps, strict=True)]).sum()


def _level(student: Tensor, teacher: Tensor) -> Tensor:
    loss, weight, total = hint(student, teacher), 1.0, 1.0
    for size in _PYRAMID:
        if size < min(student.shape[-2:]):
            weight /= 2
            total += weight
            pooled = (functional.adaptive_avg_pool2d(maps, size) for maps in (student, teacher))
            loss = loss + weight * hint(*pooled)
    return loss / total


class Fusion(nn.Module):
    """Attention based fusion (ABF) of a level of the student with all deeper ones.

    Args:
        student_channels: of the level's map.
        mid_channels: of what goes from level to level.
        teacher_channels: of the teacher's map.
        deepest: there is nothing to fuse with.
    """

    def __init__(self, student_channels: int, mid_channels: int, teacher_channels: int, *, deepest: bool) -> None:
        super().__init__()
        self.enter = _convolution(student_channels, mid_channels, 1)
        self.leave = _convolution(mid_channels, teacher_channels, 3)
        self.attention = None if deepest else nn.Conv2d(2 * mid_channels, 2, 1)

    def forward(self, features: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Fuse a level.

        Args:
            features: the student's map.
            deeper: (examples, mid_channels, ...), the second result of the next deeper level; None at the deepest.
            size: height and width of the teacher's map.

        Returns:
            The map in the teacher's shape, and what the next shallower level fuses with.
        """
        mixed = self.enter(features)
        if self.attention is not None and deeper is not None:
            deeper = functional.interpolate(deeper, mixed.shape[-2:], mode="nearest")
            own, other = self.attention(torch.cat([mixed, deeper], 1)).sigmoid().split(1, dim=1)
            mixed = own * mixed + other * deeper
        if mixed.shape[-2:] != size:
            mixed = functional.interpolate(mixed, size, mode="nearest")
        return self.leave(mixed), mixed


class ReviewConnections(nn.Module):
    """Fuses the student's maps from the deepest to the shallowest and gives each level the teacher's shape.

    Chen et al. 2021, "Distilling Knowledge via Knowledge Review", the residual learning framework; structure and
    initial weights as in the authors' code. Learned with the student and dropped afterwards.

    Args:
        student_shapes: (channels, height, width) of each level, from shallow to deep.
        teacher_shapes: as many; height and width may differ from the student's.
        mid_channels: of the fused maps.

    Raises:
        ValueError: there is no level, or numbers of levels differ.
    """

    def __init__(
        self,
        student_shapes: Sequence[Sequence[int]],
        teacher_shapes: Sequence[Sequence[int]],
        mid_channels: int,
    ) -> None:
        super().__init__()
        if not student_shapes or len(student_shapes) != len(teacher_shapes):
            raise ValueError(f"{len(student_shapes)} levels of the student and {len(teacher_shapes)} of the teacher")
        self.sizes = [(shape[1], shape[2]) for shape in teacher_shapes]
        deepest = len(student_shapes) - 1
        self.levels = nn.ModuleList(
            Fusion(student[0], mid_channels, teacher[0], deepest=level == deepest)
            for level, (student, teacher) in enumerate(zip(student_shapes, teacher_shapes, strict=True))
        )

    def forward(self, student_maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps in the teacher's shapes, in the order of `student_maps`: from shallow to deep."""
        found: list[Tensor] = []
        deeper: Tensor | None = None
        for level, features, size in reversed(list(zip(self.levels, student_maps, self.sizes, strict=True))):
            fused, deeper = level(features, deeper, size)
            found.insert(0, fused)
        return found


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
