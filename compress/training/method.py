"""What training is about: the part that differs between plain training, distillation and int8 training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class TorchBatch:
    """One process's share of a step, on the training device.

    `inputs` are (examples, ...) each; `targets` (examples, ...); `indices` (examples,) are those of the examples in
    their split, always on the CPU.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    indices: Tensor


@dataclass(frozen=True)
class TrainingProgress:
    """Where training stands: `step` of `steps` in all, in `epoch` of `epochs`, all counted from 0."""

    epoch: int
    step: int
    steps: int
    epochs: int
    seed: int

    @property
    def fraction(self) -> float:
        """Share of all steps that is done, in [0, 1]."""
        return self.step / max(self.steps, 1)


class TaskLoss(Protocol):
    """The part of a task that training needs."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over a batch."""


class Method(ABC):
    """A way to train. Classes that inherit from it override what they need; only `loss` has no default.

    Everything that a method keeps between steps must be in `modules()` or `state_dict()`, or follow from `progress`:
    training goes on from a checkpoint as if nothing had happened. With several processes every rank calls everything.
    """

    @abstractmethod
    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """Mean loss over the batch's examples, a scalar with gradients."""

    def modules(self) -> nn.Module | None:
        """Modules trained together with the student (projectors), checkpointed, and never part of the artifact."""
        return None

    def before_step(self, model: nn.Module, progress: TrainingProgress) -> None:  # noqa: B027 - a default
        """Called before each step's forward pass, in training mode (schedules: freezing, observers, masks)."""

    def after_backward(self, progress: TrainingProgress) -> None:  # noqa: B027 - a default
        """Called with gradients summed over all processes, before they are clipped."""

    def after_step(self, progress: TrainingProgress) -> None:  # noqa: B027 - a default
        """Called after the optimizer's step; `progress` is still that of the step just made."""

    def train_mode(self, model: nn.Module) -> None:
        """Put the model into training mode: at the start, after a resume, and after each validation."""
        model.train()

    def eval_mode(self, model: nn.Module) -> None:
        """Put the model into the mode in which it is validated and kept."""
        model.eval()

    def may_keep(self, progress: TrainingProgress) -> bool:
        """Whether the weights at the end of this epoch may be chosen by `keep: best` (int8: observers settled)."""
        return True

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        """The (seed, epoch) by which the examples of an epoch are augmented: its own, or those of an earlier view."""
        return seed, epoch

    def state_dict(self) -> dict[str, Any]:
        """Tensors and JSON values by name, for checkpoints, beside the state of `modules()`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - a default
        """The inverse of `state_dict`."""


class Supervised(Method):
    """Plain training on the task's own loss, or on cross-entropy with smoothed labels."""

    def __init__(self, task: TaskLoss, label_smoothing: float = 0.0) -> None:
        self.task = task
        self.label_smoothing = label_smoothing

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """The task's loss of the model's outputs."""
        outputs = model(*batch.inputs)
        if self.label_smoothing:
            return functional.cross_entropy(outputs, batch.targets, label_smoothing=self.label_smoothing)
        return self.task.loss(outputs, batch.targets)
