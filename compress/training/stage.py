"""`train`: fit a network to the labels, or to what a teacher has written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.generation.settings import TEXTS, LearnsTexts
from compress.stage import Context, Metrics
from compress.training.settings import Recipe


class Train(Recipe, LearnsTexts):
    """Train a model on the task's own loss."""

    verb: ClassVar[str] = "train"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,), **LearnsTexts.takes}
    gives: ClassVar[Kind | None] = Kind.TORCH
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed", "threads", "processes"})
    trains: ClassVar[bool] = True

    model: str | None = None
    """The model to train: a name from `models:` or a stage; unset: the model before this stage."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of each label spread over all classes (classification only)."""
    classes: tuple[str | int, ...] | None = Field(None, min_length=1)
    """Only examples with these labels (names or numbers) are trained and chosen by, for an expert; unset: all."""

    def references(self) -> dict[str, str | None]:
        """The model to train, and the texts that it learns."""
        return {"source": self.model, **self.texts()}

    def faults(self) -> list[tuple[str, str]]:
        """Combinations of the recipe that make no sense."""
        return self.recipe_faults() + self.text_faults()

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Train `source`, write it into `out`, measure it on validation."""
        from compress.training.finish import finish_training, open_training
        from compress.training.train import train

        work = open_training(inputs["source"], context)
        data, around = self.learnt(work.data, inputs.get(TEXTS))
        smoothing, classes = self.label_smoothing, self.classes
        log = train(
            work.module, data, work.task, self, context, label_smoothing=smoothing, classes=classes, around=around
        )
        return finish_training(work, inputs["source"], out, context, log)
