"""What a distillation is made of, as YAML says it. Light at import."""

from __future__ import annotations

from pydantic import Field

from compress.distillation.loss_term import LossTerm
from compress.distillation.weights import is_nothing
from compress.training.settings import Recipe

__all__ = ["DistillationRecipe", "LossTerm"]


class DistillationRecipe(Recipe):
    """A recipe that learns from a teacher."""

    losses: tuple[LossTerm, ...] | None = Field(None, min_length=1)
    """Terms of the loss, each with its weight. Unset: kl (temperature 4) 0.9 and the task's loss 0.1 where outputs are
    classes; mse 1 and the task's loss 1 where they are values."""

    def loss_faults(self) -> list[tuple[str, str]]:
        """(key, message) if nothing would be learned."""
        if self.losses is not None and all(is_nothing(term.settings.weight) for term in self.losses):
            return [("losses", "every weight is 0: nothing would be learned")]
        return []
