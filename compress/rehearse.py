"""The whole chain once on two batches, in scratch: what only running shows is found in seconds, not after a night.

Nothing is written into the store, but for a note that this very plan was rehearsed.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from compress.bundle import Bundle, Kind
from compress.errors import Fault, StageError, UsageError
from compress.plan import Plan
from compress.run import Status, context_for, perform
from compress.stage import Progress, Silent
from compress.steps import Step
from compress.store import Store, write_atomically
from compress.targets.failures import UnreachableError


def needs_rehearsal(plan: Plan, found: Sequence[Status], store: Store) -> bool:
    """Whether a step will run whose failure would cost more than the rehearsal, and the plan was not rehearsed yet."""
    return any(not s.reuse and not s.step.measures for s in found) and not _note(plan, store).exists()


def note_rehearsal(plan: Plan, store: Store) -> None:
    """Remember that a plan was rehearsed, so that a killed run goes on without doing it again."""
    write_atomically(_note(plan, store), "")


def rehearse(plan: Plan, found: Sequence[Status], store: Store, progress: Progress) -> None:
    """Run every step that will run, on two batches; finished models of the store stand in for steps that will not.

    Raises:
        UsageError: Something in the pipeline, its data or its models is wrong, or a stage cannot do what is asked.
        UnreachableError: A target is away.
    """
    reused = {status.step.name: store.peek(status.step.key) for status in found if status.reuse}
    built = {step.name for step in plan.steps if step.stage.gives is Kind.ENGINE}
    steps = [step for step in plan.steps if _worth_rehearsing(step, reused, built)]
    bundles: dict[str, Bundle] = {}
    with (
        tempfile.TemporaryDirectory(prefix="compress-rehearsal-") as scratch,
        progress.task("rehearsing the chain on two batches", len(steps)) as advance,
    ):
        for number, step in enumerate(plan.steps):
            record = reused.get(step.name)
            if record is not None and store.holds(record.digest):
                bundles[step.name] = Bundle(step.stage.gives or Kind.TORCH, store.artifact(record.digest))
                continue
            if step not in steps:
                continue
            out = Path(scratch) / str(number)
            out.mkdir()
            context = context_for(plan, step, Silent(), checkpoints=None, rehearsal=True)
            inputs = {role: bundles[name] for role, name in step.inputs.items() if name in bundles}
            try:
                perform(step, inputs, out, replace(context, world_size=1))
            except UnreachableError:
                raise
            except StageError as error:  # nothing has been begun yet: it is the pipeline that cannot work
                raise UsageError(Fault(str(error), where=step.name)) from error
            bundles[step.name] = Bundle(step.stage.gives or Kind.TORCH, out)
            advance(1, note=step.name)


def _worth_rehearsing(step: Step, reused: Mapping[str, object], built: Collection[str]) -> bool:
    """All but profiles, which cost seconds and fail for no reason that evaluating the same files does not show.

    Nor what answers with an engine: a rehearsal builds none, which takes minutes, but lets the target read the file.
    """
    return step.name not in reused and step.stage.verb != "profile" and step.inputs.get("source") not in built


def _note(plan: Plan, store: Store) -> Path:
    keys = "".join(step.key for step in plan.steps if not step.measures)
    return store.root / "rehearsed" / hashlib.sha256(keys.encode()).hexdigest()
