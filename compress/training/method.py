"""What training is about: the part that differs between plain training, distillation and int8 training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional

from compress.data.collate import IGNORED


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
    """Where training stands: `step` of `steps` in all, in `epoch`, both counted from 0."""

    epoch: int
    step: int
    steps: int
    seed: int

    @property
    def fraction(self) -> float:
        """Share of all steps that is done, in [0, 1]."""
        return self.step / max(self.steps, 1)


class TaskLoss(Protocol):
    """The part of a task that training needs."""

    @property
    def class_axis(self) -> int:
        """The axis of the outputs along which classes stand: 1, or -1 where each token has an answer."""

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

    @property
    def needs_labels(self) -> bool:
        """Whether nothing is learnt from an example without a label, such as a mixture of two."""
        return False

    def augmentation(self, seed: int, epoch: int) -> tuple[int, int]:
        """The (seed, epoch) by which the examples of an epoch are augmented: its own, or those of an earlier view."""
        return seed, epoch

    def state_dict(self) -> dict[str, Any]:
        """Tensors and JSON values by name, for checkpoints, beside the state of `modules()`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - a default
        """The inverse of `state_dict`."""


def label_loss(task: TaskLoss, outputs: Tensor, targets: Tensor, label_smoothing: float | None = None) -> Tensor:
    """The task's own loss; if a smoothing is given, the cross-entropy with labels that are smoothed by it: a scalar.

    With smoothing e the target is 1 - e plus e spread over all classes (Szegedy et al. 2016, section 7). The mean is
    over examples, or over the tokens that count; 0 without any of these.

    Args:
        task: has classes where a smoothing is given.
        outputs: logits, (examples, classes, ...), or (examples, tokens, classes) where the task's class axis is -1.
        targets: (examples, ...), class numbers, `IGNORED` at tokens that do not count.
        label_smoothing: e, in [0, 1); 0 is plain cross-entropy.
    """
    if label_smoothing is None:
        return task.loss(outputs, targets)
    if task.class_axis == -1:
        if not targets.ne(IGNORED).any():
            return outputs.sum() * 0
        outputs = outputs.movedim(-1, 1)
    return functional.cross_entropy(outputs, targets, ignore_index=IGNORED, label_smoothing=label_smoothing)


class Supervised(Method):
    """Plain training on the task's own loss, or on cross-entropy with smoothed labels."""

    def __init__(self, task: TaskLoss, label_smoothing: float = 0.0) -> None:
        self.task = task
        self.label_smoothing = label_smoothing

    @property
    def needs_labels(self) -> bool:
        """There is nothing else to learn from."""
        return True

    def loss(self, model: nn.Module, batch: TorchBatch, progress: TrainingProgress) -> Tensor:
        """The task's loss of the model's outputs."""
        outputs = model(*batch.inputs)
        return label_loss(self.task, outputs, batch.targets, self.label_smoothing or None)
