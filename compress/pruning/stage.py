"""The `prune` stage: remove whole channels until a share of the work is left, then train what remains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.distillation.settings import DistillationRecipe
from compress.distillation.teacher_settings import Cache
from compress.pruning.settings import LOOKING, Pruning
from compress.stage import Context, Metrics, Stage
from compress.training.settings import Recipe


class Recover(DistillationRecipe):
    """Training after pruning: distillation from the network as it was before."""

    epochs: int = Field(10, ge=1)
    """Passes over the training examples; of all rounds together, if there are several."""
    cache: Literal["auto", "off"] | Cache = Field("auto", union_mode="left_to_right")
    """Whether the unpruned network's answers are kept on disk: as in `distill`."""


class Sparse(Recipe):
    """Training before pruning, on the task's loss and a pull of whole units towards zero (DepGraph, Fang et al. 2023).

    What pruning will remove then carries little, and less is lost by the cut.
    """

    epochs: int = Field(5, ge=1)
    """Passes over the training examples."""
    keep: Literal["best", "last"] = "last"
    """Which epoch's weights to keep: the `last`, which were pulled longest, or the `best` by validation."""
    weight: float = Field(1e-4, gt=0)
    """Of the penalty, beside the task's loss: the squared norm of each unit's weights, times 1 for the largest unit of
    its group to 16 for the smallest."""


class Prune(Pruning, Stage):
    """Remove the least important channels, re-estimate batch-norm statistics, and train the rest."""

    verb: ClassVar[str] = "prune"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"source": (Kind.TORCH,)}
    gives: ClassVar[Kind | None] = Kind.TORCH
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed", "threads", "processes", "target"})
    trains: ClassVar[bool] = True
    version: ClassVar[int] = 3

    recover: Recover | None = Recover()
    """Training after pruning, from the unpruned network: the keys of `distill`; null for none."""
    sparse: Sparse | None = None
    """Training before pruning that makes small what is to go: `weight` and the keys of a recipe; unset: none."""
    iterations: int = Field(1, ge=1)
    """Rounds of pruning and recovery: each removes the same part of what is left, and takes its share of the epochs."""

    def on_target(self, names: Sequence[str]) -> str | None:
        """The target that the time is about, if one is asked."""
        return None if self.reach is None else self.reach.target or names[0]

    def faults(self) -> list[tuple[str, str]]:
        """Combinations that make no sense."""
        found = []
        needs: dict[str, tuple[str, ...]] = {"norm": ("magnitude",), "rounds": LOOKING}
        for key, able in needs.items():
            if key in self.model_fields_set and self.importance not in able:
                wanted = "` or `".join(able)
                message = f"has no effect with `importance: {self.importance}`; set `importance: {wanted}`"
                found.append((key, message))
        if self.recover is not None:
            faults = self.recover.recipe_faults() + self.recover.loss_faults()
            found += [(f"recover.{key}", message) for key, message in faults]
        return found + self._training_faults() + self._reach_faults()

    def _reach_faults(self) -> list[tuple[str, str]]:
        """Those of pruning to a time, or with blocks."""
        if self.reach is None and not self.depth:
            message = "has no effect with `keep` unless blocks may go: set `depth: true`"
            return [("candidates", message)] if "candidates" in self.model_fields_set else []
        found, key = [], "depth" if self.reach is None else "reach"
        if self.depth and self.keep is not None and self.keep.channels is not None:
            found.append(("keep.channels", "are not what a block saves: name `macs` or `parameters` with `depth`"))
        if self.iterations > 1:
            found.append(("iterations", f"are rounds of `keep` without `depth`; leave them out with `{key}`"))
        if self.scope != "global":
            found.append(("scope", f"has no effect with `{key}`, which weighs all layers by what they save"))
        if self.drops_blocks and self.importance not in ("taylor", "hessian"):
            message = "is no loss, which whole blocks are judged by: use `taylor` or `hessian`, or set `depth: false`"
            found.append(("importance", message))
        return found

    def _training_faults(self) -> list[tuple[str, str]]:
        """Those of the training before pruning, and between its rounds."""
        found = []
        if self.sparse is not None:
            found += [(f"sparse.{key}", message) for key, message in self.sparse.recipe_faults()]
        if self.iterations == 1:
            return found
        if self.recover is None:
            found.append(("iterations", "are rounds of pruning and recovery: set `recover`, or leave them out"))
        elif self.recover.epochs < self.iterations:
            epochs = self.recover.epochs
            message = f"each needs an epoch of recovery, and `recover` has {epochs}: raise its `epochs`"
            found.append(("iterations", message))
        elif self.recover.milestones:
            message = "are epochs of one recovery, and `iterations` makes several: choose another `schedule`"
            found.append(("recover.milestones", message))
        return found

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Prune the source, recover, write the result into `out`, measure it on validation."""
        from compress.pruning.reach import Where
        from compress.pruning.recover import prune_and_recover
        from compress.training.finish import measure_model, open_training, save_trained

        work = open_training(inputs["source"], context)
        where = None
        if context.target is not None:
            where = Where(context.target, inputs["source"].deployment, context.progress, context.rehearsal)
        pruned = prune_and_recover(work.module, work.data, work.task, self, self.recover, context, where)
        save_trained(work.module, inputs["source"], out, context)
        return {**measure_model(work.module, work.data, work.task, context), **pruned.as_metrics()}
