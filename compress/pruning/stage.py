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
        if self.recover is None:
            return []
        found = self.recover.recipe_faults() + self.recover.loss_faults()
        return [(f"recover.{key}", message) for key, message in found]

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Prune the source, recover, write the result into `out`, measure it on validation."""
        from compress.pruning.run import run_stage

        return run_stage(self, inputs["source"], out, context)
