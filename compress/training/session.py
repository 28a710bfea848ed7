"""One training run between its first step and its last: what it works with, what it has reached, and both at rest."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from compress.data.dataset import Data
from compress.errors import StageError
from compress.floats import widest
from compress.stage import Context
from compress.tasks.task import Task
from compress.training.batches import step_count
from compress.training.checkpoint import (
    Checkpoint,
    CheckpointClock,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    split_state,
    with_prefix,
)
from compress.training.device import Precision, training_device, warn_of_slow_precision
from compress.training.evaluate import Array, targets_of
from compress.training.log import RECORDED_LOSSES, EpochLog, FitLog
from compress.training.memory_format import to_work
from compress.training.method import Method, TrainingProgress
from compress.training.optimizer import make_optimizer
from compress.training.settings import Recipe
from compress.training.state import copy_of, restore, tensors_of


@dataclass
class Reached:
    """What training has reached after `step` steps.

    `loss_sum` is over the steps of the epoch in progress; `keepable` are the validation metrics of the epochs whose
    weights the method lets be kept.
    """

    loss_sum: Tensor
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)
    epochs: list[EpochLog] = field(default_factory=list)
    keepable: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    best_tensors: dict[str, Tensor] = field(default_factory=dict)
    stopped_early: bool = False

    def best_metric(self, metric: str) -> float | None:
        """The validation metric of the best epoch so far."""
        return None if self.best_epoch is None else self.epochs[self.best_epoch].validation[metric]


class Session:
    """The student, its data and everything that moves its weights, on the training device."""

    def __init__(
        self, student: nn.Module, method: Method, recipe: Recipe, *, data: Data, task: Task, context: Context
    ) -> None:
        self.data, self.task, self.method, self.recipe, self.context = data, task, method, recipe, context
        self.device = training_device(context)
        self.precision = Precision(recipe.precision, self.device)
        warn_of_slow_precision(recipe.precision, self.device, context.progress)
        self.home = next(student.parameters()).device
        self.student = to_work(student, self.device)
        extra = method.modules()
        self.extra = nn.Module() if extra is None else to_work(extra, self.device)
        self.parameters = [*self.student.parameters(), *self.extra.parameters()]
        self.optimizer = make_optimizer(self.parameters, recipe)
        self.steps_per_epoch = step_count(len(data.train), recipe.batch_size)
        self.validation_targets: Array = targets_of(data.validation)
        self.clock = CheckpointClock()
        self.reached = Reached(torch.zeros((), dtype=widest(self.device), device=self.device))

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.recipe.epochs * self.steps_per_epoch

    def progress(self) -> TrainingProgress:
        """The place of the next step."""
        step = self.reached.step
        return TrainingProgress(step // self.steps_per_epoch, step, self.steps, self.context.seed)

    def check_finite(self) -> None:
        """StageError if the loss of this epoch has left the finite numbers."""
        if math.isfinite(self.reached.loss_sum.item()):
            return
        epoch = (self.reached.step - 1) // self.steps_per_epoch
        rate = self.recipe.peak_learning_rate
        advice = [f"a lower learning rate (`learning_rate: {rate / 10:g}`; now {rate:g})", "`gradient_clip: 1`"]
        if self.precision.name != "fp32":
            advice.append("`precision: fp32`")
        where = f"in epoch {epoch + 1} of {self.recipe.epochs}, by step {self.reached.step} of {self.steps}"
        raise StageError(f"training diverged: the loss is not finite {where}. Try {' or '.join(advice)}")

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        folder = self.context.checkpoints
        checkpoint = None if folder is None else load_checkpoint(folder, self._identity())
        if checkpoint is None:
            return
        values, tensors = checkpoint.values, checkpoint.tensors
        restore(self.student, with_prefix("student.", tensors))
        restore(self.extra, with_prefix("modules.", tensors))
        restore_optimizer(self.optimizer, with_prefix("optimizer.", tensors))
        self.method.load_state_dict({**values["method"], **with_prefix("method.", tensors)})
        if values["scaler"]:
            self.precision.scaler.load_state_dict(values["scaler"])
        self.reached = Reached(
            loss_sum=tensors["loss_sum"].to(self.device, widest(self.device)),
            step=checkpoint.step,
            losses=[torch.tensor(loss, dtype=torch.float64) for loss in values["losses"]],
            epochs=[EpochLog(**epoch) for epoch in values["epochs"]],
            keepable=values["keepable"],
            best_epoch=values["best_epoch"],
            best_tensors={n: t.to(self.device) for n, t in with_prefix("best.", tensors).items()},
            stopped_early=values["stopped_early"],
        )
        self.context.progress.say(f"training goes on from step {checkpoint.step} of {self.steps}")

    def save(self) -> None:
        """Write a checkpoint (rank 0, if the context has a place for it)."""
        self.check_finite()
        self.clock.restart()
        folder, reached = self.context.checkpoints, self.reached
        if folder is None or not self.context.is_main:
            return
        method_tensors, method_values = split_state("method.", self.method.state_dict())
        tensors = {
            **{f"student.{name}": tensor for name, tensor in tensors_of(self.student).items()},
            **{f"modules.{name}": tensor for name, tensor in tensors_of(self.extra).items()},
            **{f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()},
            **{f"best.{name}": tensor for name, tensor in reached.best_tensors.items()},
            **method_tensors,
            "loss_sum": reached.loss_sum,
        }
        values = {
            "losses": [float(loss) for loss in reached.losses],
            "epochs": [asdict(epoch) for epoch in reached.epochs],
            "keepable": reached.keepable,
            "best_epoch": reached.best_epoch,
            "stopped_early": reached.stopped_early,
            "scaler": self.precision.scaler.state_dict(),
            "method": method_values,
        }
        save_checkpoint(folder, Checkpoint(reached.step, self._identity(), values, tensors))

    def note_loss(self, loss: Tensor) -> None:
        """Count a step that was made."""
        if len(self.reached.losses) < RECORDED_LOSSES:
            self.reached.losses.append(loss)
        self.reached.loss_sum += loss
        self.reached.step += 1

    def note_best(self) -> None:
        """The last logged epoch is the best so far."""
        self.reached.best_epoch = len(self.reached.epochs) - 1
        if self.recipe.keep == "best":
            self.reached.best_tensors = copy_of(self.student)

    def log(self, seconds: float) -> FitLog:
        """What was done."""
        reached, last = self.reached, len(self.reached.epochs) - 1
        best = reached.best_epoch if self.recipe.keep == "best" else None
        return FitLog(
            losses=tuple(float(loss) for loss in reached.losses),
            epochs=tuple(reached.epochs),
            kept_epoch=last if best is None else best,
            steps=reached.step,
            stopped_early=reached.stopped_early,
            seconds=seconds,
        )

    def _identity(self) -> dict[str, Any]:
        """Whose checkpoint it is. Threads and processes may change on the way; the caller's key may forbid it."""
        shapes = [(name, list(p.shape)) for name, p in self.student.named_parameters()]
        return {
            "seed": self.context.seed,
            "recipe": self.recipe.model_dump(mode="json", include=set(Recipe.model_fields)),
            "examples": len(self.data.train),
            "data": self.data.fingerprint,
            "task": self.task.name,
            "parameters": hashlib.sha256(repr(shapes).encode()).hexdigest(),
        }
