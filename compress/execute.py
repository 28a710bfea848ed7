"""`compress run`: plan, rehearse, run, publish. The one place where the parts of the machine meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.pipeline import Pipeline
from compress.plan import make_plan
from compress.publish import publish
from compress.ranks import follow, joined
from compress.rehearse import needs_rehearsal, note_rehearsal, rehearse
from compress.run import run_plan, statuses
from compress.stage import Progress
from compress.store import Store
from compress.training.processes import launched_ranks


@dataclass(frozen=True)
class Outcome:
    """What a run gave: its folder and the content of its `report.json`."""

    folder: Path
    report: Mapping[str, Any]


def execute(
    pipeline: Pipeline, store: Store, runs: Path, progress: Progress, *, remeasure: bool = False, rehearsal: bool = True
) -> Outcome | None:
    """Carry out a pipeline and write `runs/<name>/`. None in processes that only help to train.

    Raises:
        UsageError: The pipeline is wrong in a way that only running it shows; the store was not touched.
        StageError: A stage could not do what was asked; what was done before is kept.
    """
    ranks = launched_ranks()
    if ranks.world_size > 1:
        pipeline = pipeline.model_copy(update={"processes": ranks.world_size})
    plan = make_plan(pipeline)
    if not ranks.is_main:
        with joined(pipeline.device):
            follow(plan, progress)
        return None
    found = statuses(plan, store, remeasure)
    if rehearsal and needs_rehearsal(plan, found, store):
        rehearse(plan, found, store, progress)
        note_rehearsal(plan, store)
    folder, keys = runs / pipeline.name, [step.key for step in plan.steps]
    store.set_root(pipeline.name, folder, keys, finished=False)
    with joined(pipeline.device):
        done = run_plan(plan, store, progress, remeasure)
    report = publish(plan, done, store, folder)
    store.set_root(pipeline.name, folder, keys, finished=True)
    return Outcome(folder, report)
