"""What a report says of the work itself: data, settings and, for each target, its machine and what to deploy there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from compress.budget import Candidate, decide
from compress.pipeline import Pipeline
from compress.plan import Plan
from compress.run import Done
from compress.stage import Stage
from compress.store import Record
from compress.targets.settings import TargetSettings

PRIVATE = frozenset({"folder", "host", "serial", "ssh_config"})
"""Settings that say whose machine it is."""


def settings_of(pipeline: Pipeline) -> dict[str, Any]:
    """What was asked, as plain data: defaults included, without folders, hosts and users, and what the card says."""
    plain = pipeline.model_dump(mode="json", exclude={"name", "stages", "folder", "card"}, exclude_none=True)
    plain["stages"] = [
        {"name": placed.name, placed.verb: _stage(placed.stage), **({"from": placed.source} if placed.source else {})}
        for placed in pipeline.stages
    ]
    cleaned: dict[str, Any] = _cleaned(plain)
    return cleaned


def _stage(stage: Stage) -> dict[str, Any]:
    return stage.model_dump(mode="json", exclude_none=True)


def _cleaned(value: Any) -> Any:
    """Without private settings; absolute paths down to the name of the file, addresses down to what kind they are."""
    if isinstance(value, Mapping):
        return {key: _cleaned(item) for key, item in value.items() if key not in PRIVATE}
    if isinstance(value, list | tuple):
        return [_cleaned(item) for item in value]
    if not isinstance(value, str):
        return value
    if "://" in value:
        return value.partition("://")[0]
    kinds = (PurePosixPath, PureWindowsPath)
    return next((kind(value).name for kind in kinds if kind(value).is_absolute()), value)


def data_of(plan: Plan, done: Mapping[str, Done]) -> dict[str, Any]:
    """What the networks were trained and judged on: source, digest, how many examples, names of the classes."""
    pipeline = plan.pipeline
    evaluated = done[plan.rows[0].evaluations[pipeline.targets[0].name]].record.metrics
    return {
        "source": pipeline.data.source.kind,
        "fingerprint": pipeline.data.fingerprint(),
        "examples": dict(evaluated.get("examples") or {}),
        "labels": evaluated.get("labels"),
    }


def target_of(
    plan: Plan, done: Mapping[str, Done], target: str, candidates: Sequence[Candidate], reference: Candidate | None
) -> dict[str, Any]:
    """One entry of `targets`: the machine, the session in which all its files were timed, and what to deploy there.

    Times of an emulated machine say nothing, so that nothing is chosen by them.
    """
    pipeline = plan.pipeline
    settings = next(one for one in pipeline.targets if one.name == target)
    profiled = done[next(row.profiles[target] for row in plan.rows if target in row.profiles)].record
    machine = dict(profiled.metrics.get("machine") or {})
    emulated = is_emulated(settings, profiled)
    found: dict[str, Any] = {
        "name": target,
        "kind": settings.kind,
        "runtime": settings.runtime,
        "threads": settings.threads,
        "emulated": emulated,
        "machine": dict(machine.get("machine") or {}),
        "versions": dict(machine.get("versions") or {}),
        "fingerprint": fingerprint(machine, settings.runtime, settings.threads),
        "session": profiled.digest,
        "repeat": profiled.metrics.get("repeat"),
    }
    if emulated or reference is None:
        why = "its times are those of an emulator" if emulated else "the reference was not measured here"
        return found | {"deploy": None, "judged": None, "met": None, "reason": why, "budget": []}
    evaluation = next(row.evaluations[target] for row in plan.rows if row.name == plan.reference)
    higher = done[evaluation].record.metrics["higher_is_better"]
    verdict = decide(candidates, reference, limits_on(pipeline, settings), higher)
    return found | {
        "deploy": verdict.deploy,
        "judged": verdict.judged,
        "met": verdict.met,
        "reason": verdict.reason,
        "budget": [line.as_json() for line in verdict.lines],
    }


def is_emulated(target: TargetSettings, profiled: Record) -> bool:
    """Whether times were those of an emulator, by what was set and by what the target itself told."""
    rows = [entry for entries in profiled.metrics.get("latency", {}).values() for entry in entries]
    return target.emulated or any(entry.get("emulated") for entry in (profiled.metrics.get("machine") or {}, *rows))


def limits_on(pipeline: Pipeline, target: TargetSettings) -> dict[str, float]:
    """The limits on a target: the pipeline's, with its own in their place."""
    return {**pipeline.budget.limits(), **target.budget.limits()}


def fingerprint(machine: Mapping[str, Any], runtime: str, threads: int | None) -> str:
    """A digest of what times depend on besides the file: processor, versions, runtime, threads; no host is in it."""
    text = json.dumps([machine.get("machine"), machine.get("versions"), runtime, threads], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
