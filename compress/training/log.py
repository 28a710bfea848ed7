"""What a training run did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

RECORDED_LOSSES = 20


@dataclass(frozen=True)
class EpochLog:
    """One epoch: its mean training loss, and validation at its end (`validation_loss` is the task's own loss)."""

    epoch: int
    learning_rate: float
    training_loss: float
    validation_loss: float
    validation: dict[str, float]


@dataclass(frozen=True)
class FitLog:
    """What `fit` did: losses of the first steps, every epoch, and whose weights were kept.

    `kept_epoch` counts from 0; `steps` are those made in all, before and after a resume; `seconds` are those of this
    process, which a resumed run spends fewer of; `notes` say what was decided on the way.
    """

    losses: tuple[float, ...]
    epochs: tuple[EpochLog, ...]
    kept_epoch: int
    steps: int
    stopped_early: bool
    seconds: float = field(compare=False)
    notes: tuple[str, ...] = ()

    @property
    def validation(self) -> dict[str, float]:
        """Validation metrics of the weights that were kept."""
        return self.epochs[self.kept_epoch].validation

    def as_metrics(self) -> dict[str, Any]:
        """Plain data for the stage's record."""
        return {
            "losses": list(self.losses),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "kept_epoch": self.kept_epoch,
            "steps": self.steps,
            "stopped_early": self.stopped_early,
            "seconds": self.seconds,
            **({"notes": list(self.notes)} if self.notes else {}),
        }
