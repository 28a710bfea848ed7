"""What 'right' means: a task's loss, its metrics and their direction, and how far two models agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from compress.data.dataset import Data

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]
Metrics = dict[str, float]
Distillation = Literal["classes", "values"]


class Task(Protocol):
    """What the rest of the house asks of a task. Outputs and targets have the example as their first axis.

    Metrics, interval and agreement read condensed outputs (`condense`), which for most tasks are the outputs.
    """

    @property
    def name(self) -> str:
        """As in the pipeline."""

    @property
    def metric(self) -> str:
        """The primary metric: what models are chosen and budgets judged by."""

    @property
    def higher_is_better(self) -> bool:
        """The primary metric's direction."""

    @property
    def distillation(self) -> Distillation:
        """What a student learns from a teacher: a distribution over classes (`classes`), or the outputs themselves."""

    @property
    def class_axis(self) -> int:
        """The axis of the outputs along which classes stand: 1, or -1 where each token has an answer (N x T x V)."""

    def prepare(self, data: Data) -> Data:
        """The data with the targets that this task learns from; unchanged where the data's own targets are these."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What training makes small: a scalar, the mean over the batch."""

    def condense(self, outputs: Tensor | Array, targets: Tensor | Array) -> Array:
        """What metrics need of a batch's raw outputs: they themselves, or a few numbers for each token."""

    def metrics(self, outputs: Array, targets: Array) -> Metrics:
        """The metrics over all given examples, the primary one first."""

    def interval(self, outputs: Array, targets: Array) -> tuple[float, float]:
        """A 95 % interval for the primary metric, over the examples as a sample."""

    def agreement(self, outputs: Array, reference_outputs: Array) -> float:
        """In [0, 1]: how far two models say the same of the same examples."""

    def check(self, data: Data) -> list[str]:
        """What is wrong with `data` for this task, a line each."""

    def output_size(self, data: Data) -> int | tuple[int, ...]:
        """What the network must give for each example: the number of classes, or a shape."""


class PerExample:
    """For tasks whose network gives one answer an example: nothing to prepare, nothing to condense."""

    class_axis: ClassVar[int] = 1

    def prepare(self, data: Data) -> Data:
        """The data as they are."""
        return data

    def condense(self, outputs: Tensor | Array, targets: Tensor | Array) -> Array:
        """The outputs themselves, fp32 where they are tensors."""
        return outputs if isinstance(outputs, np.ndarray) else np.asarray(outputs.float().cpu().numpy())


def same_class(outputs: Array, reference_outputs: Array) -> float:
    """Share of examples whose largest output is the same class in both (N x classes)."""
    return float(np.mean(outputs.argmax(axis=1) == reference_outputs.argmax(axis=1)))


def same_values(outputs: Array, reference_outputs: Array) -> float:
    """Share of values that lie within 1 % of the reference's range (largest minus smallest value) of the reference's.

    Where the reference gives one value everywhere, its range is 0 and only equal values agree.
    """
    tolerance = 0.01 * float(np.ptp(reference_outputs))
    return float(np.mean(np.abs(outputs - reference_outputs) <= tolerance))
