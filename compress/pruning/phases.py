"""The finished parts of a long step at rest, so that an interrupted one does none of them again.

Each phase has a folder of its own below the step's: `fit` keeps its checkpoints there, and beside them lie `chosen`
(what was cut) and `finished` (the network and the log after training). A network that is cut again by what was chosen
has the shapes of the first time, also where arithmetic is not the same to the last bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import nn

from compress.data.digests import text_digest
from compress.data.locations import cache_folder
from compress.pruning.judge import JUDGE_RULE
from compress.pruning.noted import Noted
from compress.stage import Context
from compress.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from compress.training.log import EpochLog, FitLog
from compress.training.processes import broadcast_object, gather_arrays
from compress.training.state import restore, tensors_of

Choice = TypeVar("Choice")
Recall = Callable[[Callable[[], Choice]], Choice]
"""Gives a choice as plain data: one that was made before, or that of the first process, or what the function makes."""


def anew(choose: Callable[[], Choice]) -> Choice:
    """Nothing was chosen before, and nobody else chooses."""
    return choose()


class Phases:
    """The phases of one step, by name.

    Args:
        context: nothing is kept where it has no checkpoints, or in a rehearsal.
        identity: JSON that says whose phases they are.
    """

    def __init__(self, context: Context, identity: Mapping[str, Any]) -> None:
        self.context, self.identity = context, dict(identity)
        self.folder = None if context.rehearsal else context.checkpoints

    def trained(self, name: str, module: nn.Module, training: Callable[[Context], FitLog]) -> FitLog:
        """Train `module` in place within a context of the phase's own, or give it what that ended in before.

        Raises:
            UsageError: the folder holds phases of another step; as `training` does.
        """
        if self.folder is None:
            return training(self.context)
        folder = self.folder / name
        finished = load_checkpoint(folder / "finished", self.identity)
        if finished is not None:
            restore(module, finished.tensors)
            module.eval()
            return _fit_log(finished.values)
        log = training(replace(self.context, checkpoints=folder))
        gather_arrays(np.zeros(1), self.context.world_size)  # no process reads the checkpoints any more
        if self.context.is_main:
            done = Checkpoint(log.steps, self.identity, asdict(log), tensors_of(module))
            save_checkpoint(folder / "finished", done)
            _drop_steps(folder)
        return log

    def noted(self, whose: Mapping[str, Any]) -> Noted:
        """Numbers that are found on the way to a choice: in the user's cache, for all steps that choose so.

        Args:
            whose: JSON that says what the numbers depend on; how training goes on afterwards is no part of it.
        """
        if self.folder is None or not self.context.is_main:
            return Noted()
        return Noted(cache_folder() / "choices" / f"{text_digest([JUDGE_RULE, whose])[:32]}.jsonl")

    def recalled(self, name: str, choose: Callable[[], Choice]) -> Choice:
        """The plain data that the first process chose in this phase before, or else now; others do not choose.

        Raises:
            UsageError: the folder holds phases of another step; as `choose` does.
        """
        if not self.context.is_main:
            nothing: Any = None
            found: Choice = broadcast(nothing)
            return found
        if self.folder is None:
            return broadcast(choose())
        folder = self.folder / name / "chosen"
        before = load_checkpoint(folder, self.identity)
        if before is None:
            before = Checkpoint(0, self.identity, {"choice": choose()}, {})
            save_checkpoint(folder, before)
        chosen: Choice = broadcast(before.values["choice"])
        return chosen


def broadcast(choice: Choice) -> Choice:
    """That of the first process."""
    found: Choice = broadcast_object(choice)
    return found


def _fit_log(plain: Mapping[str, Any]) -> FitLog:
    """The inverse of `asdict`, after JSON."""
    epochs = tuple(EpochLog(**epoch) for epoch in plain["epochs"])
    return FitLog(**{**plain, "losses": tuple(plain["losses"]), "epochs": epochs, "notes": tuple(plain["notes"])})


def _drop_steps(folder: Path) -> None:
    """Remove the checkpoints that `fit` has left on the way."""
    for place in folder.glob("step-*"):
        shutil.rmtree(place, ignore_errors=True)
