"""What is known of a target: asked once a run, and remembered for plans that are made while it is away."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from compress.errors import CompressError, UsageError
from compress.targets import failures, perf_test, remote
from compress.targets.emissions import ARM, X86, saturates
from compress.targets.execution import Execution
from compress.targets.facts import Facts, remember, remembered
from compress.targets.kinds import KINDS, run_program
from compress.targets.measuring.machine import available_cores
from compress.targets.measuring.nvidia import CUDA
from compress.targets.programs import program_for
from compress.targets.settings import TargetSettings
from compress.targets.tensorrt_settings import AUTOMATIC, BELONGS_TO, RUNTIME

AWAY_SECONDS = 30.0
"""For so long a device that is away is not asked again while a plan is made."""


@dataclass
class Place:
    """What this process has found out of one place, which several targets may name.

    `fingerprint` is that which was remembered of it, `engines` what an engine built there belongs to; `away` says why
    it could not be asked, `away_since` when that was, by `time.monotonic`.
    """

    fingerprint: str | None = None
    engines: Mapping[str, str] | None = None
    away: str = ""
    away_since: float = -AWAY_SECONDS


_places: dict[tuple[str, ...], Place] = {}


def forget_places() -> None:
    """Ask every place anew."""
    _places.clear()


def facts_of(target: TargetSettings) -> Facts:
    """What the target tells of itself, asked once a run; it is remembered for plans that are made while it is away.

    Raises:
        UnreachableError: It is away.
        UsageError: It refuses us, or has no Python that will do.
    """
    found = perf_test.facts(target) if target.perf_test else KINDS[target.kind].facts(target)
    if target.execution_provider == CUDA and found.gpu is not None:
        found = replace(found, machine={**found.machine, "gpu": found.gpu})
    if target.runtime == RUNTIME:
        found = replace(found, versions={**found.versions, **_tensorrt_there(target)})
    place = _place(target)
    if not target.is_local and place.fingerprint != found.fingerprint:
        remember(_address(target), found)
        place.fingerprint = found.fingerprint
    return found


def _place(target: TargetSettings) -> Place:
    """The record of where a target is, and of the GPU that is seen there."""
    return _places.setdefault((*_address(target), os.environ.get("CUDA_VISIBLE_DEVICES", "")), Place())


def _address(target: TargetSettings) -> tuple[str, ...]:
    return (*remote.address(target), *([RUNTIME] if target.runtime == RUNTIME else []))


def _tensorrt_there(target: TargetSettings) -> Mapping[str, str]:
    """What an engine built there belongs to, asked once by running the program. Raises UsageError if nothing can."""
    place = _place(target)
    if place.engines is None:
        described = describe_tensorrt(target)
        if "error" in described:
            raise failures.failure(f"target '{target.name}'", described["error"])
        place.engines = {name: str(described[name]) for name in BELONGS_TO}
    return place.engines


def describe_tensorrt(target: TargetSettings) -> dict[str, Any]:
    """What an engine built on the target would belong to, and the GPU's memory; or under `error` what is missing.

    An error has a `kind` (`library` or `gpu`) and a `message` that says what to do.
    """
    request = {"describe": True, "target": target.name, "stop_with_stdin": True}
    return run_program(target, Execution(program_for(RUNTIME), request))


def facts_for_plan(target: TargetSettings) -> tuple[Facts | None, str]:
    """(what is known of the target, what to say if it is not from now): a plan is made also while a device is away."""
    place = _place(target)
    if place.away and time.monotonic() - place.away_since < AWAY_SECONDS:
        return remembered(_address(target)), place.away
    try:
        return facts_of(target), ""
    except CompressError as error:
        away = "is not reachable" if isinstance(error, failures.UnreachableError) else "cannot be used"
        place.away, place.away_since = f"{away}: {error}", time.monotonic()
        return remembered(_address(target)), place.away


def is_emulated(target: TargetSettings) -> bool:
    """Whether its processor is not real, as far as it is known, so that its times mean nothing."""
    if target.is_local or target.emulated:
        return target.emulated
    found, _ = facts_for_plan(target)
    return found is not None and found.emulated


def away(target: TargetSettings) -> str:
    """Why a target could not be asked while a plan was made; empty if it was there."""
    return "" if target.is_local else facts_for_plan(target)[1]


def fingerprint(target: TargetSettings) -> str:
    """A digest of the target's processor and runtime: what results depend on besides settings; `unknown` if away."""
    found, _ = facts_for_plan(target)
    return "unknown" if found is None else found.fingerprint


def emissions(target: TargetSettings) -> list[str]:
    """The ONNX emissions worth making for a target, the float one first."""
    if target.emit != "auto":
        return list(target.emit)
    if target.runtime == RUNTIME:
        return list(AUTOMATIC)
    if target.provider != "cpu":
        return ["fp32"]
    found, _ = facts_for_plan(target)
    if found is None:
        return ["fp32"]
    architecture = str(found.machine["architecture"]).lower()
    if architecture in X86:
        return ["fp32", "ort-x86-avx2" if saturates(found.machine) else "ort-x86"]
    return ["fp32", "ort-arm"] if architecture in ARM else ["fp32"]


def cores_for(target: TargetSettings) -> list[int]:
    """The cores to pin to: those of the target, else the last ones that may be used (interrupts prefer the first)."""
    if target.cores is not None:
        return sorted(target.cores)
    usable = available_cores() if target.is_local else list(facts_of(target).usable_cores)
    if target.threads > len(usable):
        message = f"{target.threads} threads asked for, but only {len(usable)} cores may be used there"
        raise UsageError(f"target '{target.name}': threads: {message}")
    return usable[-target.threads :]


def require(target: TargetSettings) -> None:
    """See that a target is there, and that its Python has what the measuring program imports.

    Raises:
        UsageError: It refuses us, or lacks something.
        UnreachableError: It is away.
    """
    versions = facts_of(target).versions
    if target.perf_test:
        return
    for name in ("numpy",) if target.runtime == RUNTIME else ("numpy", "onnxruntime"):
        if versions.get(name) is None:
            raise failures.no_package(target.name, target.python, name)
