"""The loss terms of distillation as YAML says them, each with its own weight."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from compress.settings import Settings
from compress.training.settings import Recipe


class KlSettings(Settings):
    """Divergence of the student's softened classes from the teacher's, times temperature squared."""

    temperature: float = Field(4.0, gt=0)
    """Divides the logits of both before the softmax."""
    weight: float = Field(1.0, ge=0)
    """Factor of this term in the sum."""


class CrossEntropySettings(Settings):
    """The student's cross-entropy with the labels."""

    weight: float = Field(1.0, ge=0)
    """Factor of this term in the sum."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each label spread over all classes."""


class MseSettings(Settings):
    """Mean squared difference between the student's and the teacher's outputs."""

    weight: float = Field(1.0, ge=0)
    """Factor of this term in the sum."""


class TaskLossSettings(Settings):
    """The task's own loss between the student's outputs and the targets."""

    weight: float = Field(1.0, ge=0)
    """Factor of this term in the sum."""


class LossTerm(Settings):
    """One item of `losses:`: a loss's name and its settings, such as `{kl: {temperature: 4, weight: 0.9}}`."""

    kl: KlSettings | None = None
    """Softened classes of the teacher."""
    cross_entropy: CrossEntropySettings | None = None
    """Labels."""
    mse: MseSettings | None = None
    """Outputs of the teacher."""
    task: TaskLossSettings | None = None
    """The task's own loss."""

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, value: Any) -> Any:
        """`kl` and `{kl: }` mean `{kl: {}}`."""
        if isinstance(value, str):
            return {value: {}}
        if isinstance(value, dict) and len(value) == 1:
            return {name: {} if settings is None else settings for name, settings in value.items()}
        return value

    @model_validator(mode="after")
    def _check_exactly_one(self) -> LossTerm:
        if len(self._named()) != 1:
            raise ValueError("names exactly one loss: kl, cross_entropy, mse or task")
        return self

    def _named(self) -> list[str]:
        return [name for name in type(self).model_fields if getattr(self, name) is not None]

    @property
    def name(self) -> str:
        """The loss that this term names."""
        return self._named()[0]

    @property
    def settings(self) -> KlSettings | CrossEntropySettings | MseSettings | TaskLossSettings:
        """The settings of that loss."""
        found: KlSettings | CrossEntropySettings | MseSettings | TaskLossSettings = getattr(self, self.name)
        return found


class DistillationRecipe(Recipe):
    """A recipe that learns from a teacher."""

    losses: tuple[LossTerm, ...] | None = Field(None, min_length=1)
    """Terms of the loss, each with its weight. Unset: kl (temperature 4) 0.9 and the task's loss 0.1 where outputs are
    classes; mse 1 and the task's loss 1 where they are values."""

    def loss_faults(self) -> list[tuple[str, str]]:
        """(key, message) if nothing would be learned."""
        if self.losses is not None and not any(term.settings.weight for term in self.losses):
            return [("losses", "every weight is 0: nothing would be learned")]
        return []
