"""The face of a loss term."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from compress.distillation.exchange import Exchange
from compress.distillation.loss_settings import Term as TermSettings
from compress.distillation.weights import weight_at


class Term(nn.Module):
    """A loss between student and teacher; its parameters and buffers are learnt with the student and never deployed.

    `student_points` and `teacher_points` are what it reads inside of the two (`compress.distillation.outputs`);
    `reads_teacher` says whether the teacher has to answer at all.
    """

    reads_teacher: bool = True

    def __init__(
        self,
        settings: TermSettings,
        student_points: tuple[str, ...] = (),
        teacher_points: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.settings = settings
        self.student_points = student_points
        self.teacher_points = teacher_points

    @abstractmethod
    def forward(self, exchange: Exchange) -> Tensor:
        """The loss without its weight, a scalar."""

    def weight(self, fraction: float) -> float:
        """Its factor when `fraction` of training is done."""
        return weight_at(self.settings.weight, fraction)
