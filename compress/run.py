"""Plan -> records, one step at a time: reuse what was asked before, execute the rest, report."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from compress.bundle import Bundle, Kind
from compress.environment import environment
from compress.errors import StageError
from compress.plan import Plan
from compress.profiling.stage import Profile
from compress.ranks import lead
from compress.stage import Context, Progress
from compress.steps import Step, thread_count
from compress.store import Record, Store
from compress.training.processes import launched_ranks


@dataclass(frozen=True)
class Done:
    """One step of a run: its record, and whether it was there before."""

    record: Record
    reused: bool


@dataclass(frozen=True)
class Status:
    """What a run would do with a step, and why."""

    step: Step
    reuse: bool
    why: str


def statuses(plan: Plan, store: Store, remeasure: bool = False) -> list[Status]:
    """For each step whether its record can be reused. Reads records only; artifacts are verified when used."""
    found: list[Status] = []
    digests: dict[str, str] = {}
    for step in plan.steps:
        record = store.peek(step.key)
        changed = [role for role, name in step.inputs.items() if name not in digests]
        if record is None:
            why = "its input will run" if changed else "not in the store with these settings, inputs and data"
            found.append(Status(step, False, why))
        elif changed:
            found.append(Status(step, False, f"{step.inputs[changed[0]]} will run"))
        elif record.input_digests != {role: digests[name] for role, name in step.inputs.items()}:
            found.append(Status(step, False, "its input has changed"))
        elif remeasure and step.measures:
            found.append(Status(step, False, "--remeasure"))
        elif is_incomplete(record):
            found.append(Status(step, False, "its target was lost before it was done"))
        else:
            digests[step.name] = record.digest
            found.append(Status(step, True, f"done in {record.seconds:.1f} s"))
    return found


def run_plan(
    plan: Plan,
    store: Store,
    progress: Progress,
    remeasure: bool = False,
    finished: dict[str, Done] | None = None,
    tell: Callable[[str, Done], None] = lambda name, done: None,
) -> dict[str, Done]:
    """Carry out a plan. Returns each step's record by name.

    `finished` holds what this run has done so far, by key, and grows: it is not done again. `tell` hears of each step
    that is finished, or was before this run.

    Raises:
        UsageError: The pipeline, its data or its models are wrong in a way that only running them shows.
        StageError: A step could not do what was asked.
        UnreachableError: The target of a step that measures is away.
    """
    done: dict[str, Done] = {}
    finished = {} if finished is None else finished
    bundles: dict[str, Bundle] = {}
    for step in plan.steps:
        if step.key in finished:
            done[step.name] = finished[step.key]
            bundles[step.name] = _bundle(step, store, finished[step.key].record)
            continue
        again = remeasure and step.measures
        with store.lock(step.key, partial(progress.say, f"{step.name}: another run is at it; waiting")):
            inputs = {role: bundles[name] for role, name in step.inputs.items()}
            record = None if again else reusable(store, step, inputs)
            reused = record is not None
            if record is None:
                progress.say(f"{step.name}: {step.stage.verb}")
                record = _execute(step, inputs, plan, store, progress)
        done[step.name] = finished[step.key] = Done(record, reused)
        bundles[step.name] = _bundle(step, store, record)
        tell(step.name, done[step.name])
    return done


def _bundle(step: Step, store: Store, record: Record) -> Bundle:
    return Bundle(step.stage.gives or Kind.TORCH, store.artifact(record.digest), record.digest)


def reusable(store: Store, step: Step, inputs: Mapping[str, Bundle]) -> Record | None:
    """The record of a step made from these very inputs, whose artifact is whole."""
    record = store.find(step.key)
    if record is None or record.input_digests != {role: bundle.digest for role, bundle in inputs.items()}:
        return None
    return None if is_incomplete(record) else record


def is_incomplete(record: Record) -> bool:
    """Whether its target was lost before everything was measured."""
    return bool(record.metrics.get("incomplete"))


def context_for(plan: Plan, step: Step, progress: Progress, *, checkpoints: Path | None, rehearsal: bool) -> Context:
    """What a step may ask of the world."""
    pipeline = plan.pipeline
    return Context(
        seed=pipeline.seed,
        device=pipeline.device,
        threads=thread_count(pipeline),
        data=pipeline.data,
        task=pipeline.task,
        target=step.target or pipeline.targets[0],
        checkpoints=checkpoints,
        rehearsal=rehearsal,
        progress=progress,
        world_size=pipeline.processes,
    )


def perform(step: Step, inputs: Mapping[str, Bundle], out: Path, context: Context) -> dict[str, Any]:
    """Run a step's stage; if it trains and several processes were asked for, in all of them."""
    if not step.stage.trains or context.world_size == 1:
        if not isinstance(step.stage, Profile):
            import torch

            torch.set_num_threads(context.threads)
        return step.stage.run(inputs, out, replace(context, world_size=1))
    if launched_ranks().world_size > 1:
        return lead(step.stage, inputs, out, context)
    from compress.training.launch import run_in_processes

    return dict(run_in_processes(step.stage, inputs, out, replace(context, world_size=1), context.world_size))


def _execute(step: Step, inputs: Mapping[str, Bundle], plan: Plan, store: Store, progress: Progress) -> Record:
    """Run one step in scratch, commit what it wrote, and record it last."""
    checkpoints = store.progress(step.key) if step.stage.trains or step.stage.resumes else None
    context = context_for(plan, step, progress, checkpoints=checkpoints, rehearsal=False)
    start = time.perf_counter()
    with _full_disk_is_said(store), store.scratch() as out:
        metrics = perform(step, inputs, out, context)
        digest = store.put(out)
        record = Record(
            name=step.name,
            verb=step.stage.verb,
            key=step.key,
            input_digests={role: bundle.digest for role, bundle in inputs.items()},
            digest=digest,
            metrics=metrics,
            seconds=round(time.perf_counter() - start, 3),
            environment=environment(),
        )
        store.record(record)
    return record


@contextlib.contextmanager
def _full_disk_is_said(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"no space is left for the store ({error}); free some with `compress gc --yes`, or give --store"
        raise StageError(message) from error
