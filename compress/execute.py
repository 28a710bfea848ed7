"""`compress run`: plan, rehearse, run, publish. The one place where the parts of the machine meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.pipeline import Pipeline
from compress.plan import Plan, make_plan
from compress.publish import publish
from compress.ranks import follow, joined
from compress.rehearse import needs_rehearsal, note_rehearsal, rehearse
from compress.run import Done, Status, is_incomplete, run_plan, statuses
from compress.stage import Progress
from compress.store import Store
from compress.targets.failures import UnreachableError
from compress.targets.remote import close_all
from compress.targets.target import require
from compress.tracking import Tracking
from compress.training.processes import launched_ranks


@dataclass(frozen=True)
class Outcome:
    """What a run gave: its folder, the content of its `report.json`, and by name the targets that were away or lost."""

    folder: Path
    report: Mapping[str, Any]
    lost: Mapping[str, UnreachableError] = field(default_factory=dict)


def execute(
    pipeline: Pipeline, store: Store, runs: Path, progress: Progress, *, remeasure: bool = False, rehearsal: bool = True
) -> Outcome | None:
    """Carry out a pipeline and write `runs/<name>/`. None in processes that only help to train.

    Raises:
        UsageError: The pipeline is wrong in a way that only running it shows; the store was not touched.
        StageError: A stage could not do what was asked; what was done before is kept.
        UnreachableError: No target could be reached, or one that a stage needs.
    """
    ranks = launched_ranks()
    if ranks.world_size > 1:
        pipeline = pipeline.model_copy(update={"processes": ranks.world_size})
    plan = make_plan(pipeline)
    if not ranks.is_main:
        with joined(pipeline.device):
            follow(plan, progress)
        return None
    folder = runs / pipeline.name
    keys: dict[str, None] = {}
    lost: dict[str, UnreachableError] = {}
    finished: dict[str, Done] = {}
    tracking = Tracking(pipeline, folder)

    def carry_out() -> dict[str, Done]:
        found = statuses(plan, store, remeasure)
        _require_targets(found)
        if rehearsal and not finished and needs_rehearsal(plan, found, store):
            rehearse(plan, found, store, progress)
            note_rehearsal(plan, store)
        keys.update(dict.fromkeys(step.key for step in plan.steps))
        store.set_root(pipeline.name, folder, list(keys), finished=False)
        with joined(pipeline.device):
            return run_plan(plan, store, progress, remeasure, finished, tracking.tell_step)

    try:
        while True:
            try:
                done = carry_out()
                break
            except UnreachableError as error:
                plan = _without(pipeline, plan, lost, error)
                progress.say(f"{error}; going on without this target")
    except BaseException:
        tracking.close()
        raise
    finally:
        close_all()
    lost |= {target: UnreachableError(said, target) for target, said in _incomplete(plan, done).items()}
    report = publish(plan, done, store, folder)
    store.set_root(pipeline.name, folder, list(keys), finished=True)
    tracking.tell_report(report)
    tracking.close()
    return Outcome(folder, report, lost)


def _require_targets(found: Sequence[Status]) -> None:
    """Ask every target on which something will be measured whether it is there, before any work.

    Raises:
        UsageError: One refuses us, or has no Python that will do.
        UnreachableError: One is away.
    """
    wanted = {s.step.target.name: s.step.target for s in found if not s.reuse and s.step.target is not None}
    for target in wanted.values():
        if not target.is_local:
            require(target)


def _without(pipeline: Pipeline, plan: Plan, lost: dict[str, UnreachableError], error: UnreachableError) -> Plan:
    """The plan without a target that is away, noted in `lost`; the error itself where others cannot go on without."""
    if not error.target or error.target in lost:
        raise error
    lost[error.target] = error
    if len(plan.pipeline.targets) == 1:
        raise error
    without = make_plan(pipeline, lost)
    if any(step.target is not None and step.target.name in lost for step in without.steps):
        raise error  # a stage works by what is measured there
    return without


def _incomplete(plan: Plan, done: Mapping[str, Done]) -> dict[str, str]:
    """The targets that were lost while they measured, with what is said of it."""
    return {
        step.target.name: str(done[step.name].record.metrics["incomplete"])
        for step in plan.steps
        if step.target is not None and is_incomplete(done[step.name].record)
    }
