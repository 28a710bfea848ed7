"""The `prune` stage: remove whole channels until a share of the work is left, then train what remains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.distillation.settings import DistillationRecipe
from compress.pruning.settings import Pruning
from compress.stage import Context, Metrics, Stage


class Recover(DistillationRecipe):
    """Training after pruning: distillation from the network as it was before."""

    epochs: int = Field(10, ge=1)
    """Passes over the training examples."""


class Prune(Pruning, Stage):
    """Remove the least important channels, re-estimate batch-norm statistics, and train the rest."""

    verb: ClassVar[str] = "prune"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,)}
    gives: ClassVar[Kind | None] = Kind.TORCH
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed", "threads", "processes"})
    trains: ClassVar[bool] = True

    recover: Recover | None = Recover()
    """Training after pruning, from the unpruned network: the keys of `distill`; null for none."""

    def faults(self) -> list[tuple[str, str]]:
        """Combinations that make no sense."""
        found = []
        needs = {"norm": "magnitude", "rounds": "taylor"}
        for key, importance in needs.items():
            if key in self.model_fields_set and self.importance != importance:
                message = f"has no effect with `importance: {self.importance}`; set `importance: {importance}`"
                found.append((key, message))
        if self.recover is not None:
            faults = self.recover.recipe_faults() + self.recover.loss_faults()
            found += [(f"recover.{key}", message) for key, message in faults]
        return found

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Prune the source, recover, write the result into `out`, measure it on validation."""
        from compress.pruning.recover import prune_and_recover
        from compress.training.finish import measure_model, open_training, save_trained

        work = open_training(inputs["source"], context)
        log, training = prune_and_recover(work.module, work.data, work.task, self, self.recover, context)
        save_trained(work.module, inputs["source"], out, context)
        metrics = measure_model(work.module, work.data, work.task, context)
        trained = {} if training is None else {"training": training.as_metrics()}
        return {**metrics, "pruning": log.plain(), **trained}
