"""`distill`: fit a student to a teacher's outputs and to the labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from compress.bundle import Bundle, Kind
from compress.distillation.settings import DistillationRecipe
from compress.stage import Context, Metrics, Stage


class Distill(DistillationRecipe, Stage):
    """Train a student on the outputs of a teacher."""

    verb: ClassVar[str] = "distill"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,), "teacher": (Kind.TORCH,)}
    gives: ClassVar[Kind | None] = Kind.TORCH
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed", "threads", "processes"})
    trains: ClassVar[bool] = True

    model: str | None = None
    """The student: a name from `models:` or a stage; unset: the model before this stage."""
    teacher: str
    """The model to learn from: a name from `models:` (its latest state above this line) or a stage."""

    def references(self) -> dict[str, str | None]:
        """The student and its teacher."""
        return {"source": self.model, "teacher": self.teacher}

    def faults(self) -> list[tuple[str, str]]:
        """Combinations that make no sense."""
        found = self.recipe_faults() + self.loss_faults()
        if self.model == self.teacher:
            found.append(("teacher", f"`{self.teacher}` would learn from itself: name another model"))
        return found

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Train `source` to answer like `teacher`, write it into `out`, measure it on validation."""
        from compress.distillation.distill import distill
        from compress.models.rest import load
        from compress.training.finish import finish_training, open_training

        work = open_training(inputs["source"], context)
        teacher = load(inputs["teacher"].path)
        log = distill(work.module, teacher, work.data, work.task, self, self.losses, context)
        return finish_training(work, inputs["source"], out, context, log)
