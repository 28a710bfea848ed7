"""Distillation of features by their values."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from compress.distillation.losses.numerics import wide


def hint(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean squared difference over all elements, a scalar.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", eq. 3, which has half the sum in place of the mean. Its
    regressor r is `Projector`.

    Args:
        student_features: (examples, ...), behind a `Projector` where the student's features have another shape.
        teacher_features: of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if student_features.shape != teacher_features.shape:
        raise ValueError(f"features of shapes {tuple(student_features.shape)} and {tuple(teacher_features.shape)}")
    return functional.mse_loss(wide(student_features), wide(teacher_features))


def match_sizes(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller height and the smaller width of the two, by adaptive average pooling.

    Args:
        student: (examples, channels, height, width).
        teacher: likewise, of any channels, height and width.
    """
    size = _smaller(student.shape, teacher.shape)
    return _pooled(student, size), _pooled(teacher, size)


class Projector(nn.Module):
    """Maps the student's features to the teacher's shape; learned with the student, also where both shapes are equal.

    Maps are pooled to the smaller size of the two and go through a 1x1 convolution and batch norm: where the teacher's
    map is the smaller one that is its shape; else `match_sizes` pools the teacher's. Vectors and sequences of tokens
    go through a linear layer along the last axis.

    Args:
        student_shape: (channels, height, width), (width,) or (tokens, width): without the axis of examples.
        teacher_shape: of the same kind.

    Raises:
        ValueError: shapes of different kinds, or sequences of different lengths.
    """

    def __init__(self, student_shape: Sequence[int], teacher_shape: Sequence[int]) -> None:
        super().__init__()
        student, teacher = tuple(student_shape), tuple(teacher_shape)
        same_kind = len(student) == len(teacher) and len(student) in (1, 2, 3)
        if not same_kind or (len(student) == 2 and student[0] != teacher[0]):
            raise ValueError(f"no projection from features of shape {student} to {teacher}")
        self.size = _smaller(student, teacher) if len(student) == 3 else None
        self.layers: nn.Module
        if self.size is not None:
            channels = teacher[0]
            self.layers = nn.Sequential(nn.Conv2d(student[0], channels, 1, bias=False), nn.BatchNorm2d(channels))
        else:
            self.layers = nn.Linear(student[-1], teacher[-1])

    def forward(self, features: Tensor) -> Tensor:
        """Project (examples, *student_shape)."""
        projected: Tensor = self.layers(features if self.size is None else _pooled(features, self.size))
        return projected


def _smaller(first: Sequence[int], second: Sequence[int]) -> tuple[int, int]:
    return min(first[-2], second[-2]), min(first[-1], second[-1])


def _pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return maps if maps.shape[-2:] == size else functional.adaptive_avg_pool2d(maps, size)
