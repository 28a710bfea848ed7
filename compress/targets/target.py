"""A target: somewhere to run a program, above all the one that measures. One kind of target a file, one table line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from compress.errors import CompressError, StageError, UsageError
from compress.stage import Progress, Silent
from compress.targets import facts as told
from compress.targets import failures, local, perf_test, remote
from compress.targets.facts import Facts, Together
from compress.targets.measuring.machine import available_cores
from compress.targets.model_files import model_files
from compress.targets.programs import program_for
from compress.targets.settings import ARM, VNNI, X86, TargetSettings
from compress.targets.tensorrt_settings import AUTOMATIC, BELONGS_TO, RUNTIME

Job = Mapping[str, Any]
"""What the measuring program is asked to do with one model; see `compress.targets.measuring`."""
AWAY_SECONDS = 30.0
"""For so long a device that is away is not asked again while a plan is made."""
_SILENT = Silent()
_away: dict[tuple[str, ...], tuple[float, str]] = {}
_remembered: dict[tuple[str, ...], str] = {}
_known: dict[tuple[str, ...], dict[str, str]] = {}


class Run(Protocol):
    """Runs a program in a fresh process on the target; see `run_program`."""

    def __call__(
        self,
        target: TargetSettings,
        program: Path,
        request: Mapping[str, Any],
        *,
        inputs: Sequence[Together],
        outputs: Sequence[Path],
        progress: Progress,
        told: Callable[[str], None],
    ) -> dict[str, Any]:
        """What the program gave."""


@dataclass(frozen=True)
class Kind:
    """One kind of target: how a program runs there, and how it is asked what it is."""

    run: Run
    facts: Callable[[TargetSettings], Facts]


KINDS: dict[str, Kind] = {
    "local": Kind(local.run_program, local.facts),
    "ssh": Kind(remote.run_program, remote.facts),
    "adb": Kind(remote.run_program, remote.facts),
}
FAILURES: dict[str, Callable[[str], CompressError]] = {
    "model": UsageError,
    "axes": UsageError,
    "provider": UsageError,
    "run": StageError,
    "library": UsageError,
    "gpu": UsageError,
    "engine": UsageError,
    "parse": UsageError,
    "memory": StageError,
    "build": StageError,
}
"""What the measuring program says went wrong -> whose fault that is."""


def failure(name: str, error: Mapping[str, str]) -> CompressError:
    """The measuring program's `error` about the file `name`, to be raised."""
    return FAILURES[error["kind"]](f"{name}: {error['message']}")


def facts_of(target: TargetSettings) -> Facts:
    """What the target tells of itself, asked once a run; it is remembered for plans that are made while it is away.

    Raises:
        UnreachableError: It is away.
        UsageError: It refuses us, or has no Python that will do.
    """
    found = perf_test.facts(target) if target.perf_test else KINDS[target.kind].facts(target)
    if target.runtime == RUNTIME:
        found = replace(found, versions={**found.versions, **_tensorrt_there(target)})
    address = _address(target)
    if not target.is_local and _remembered.get(address) != found.fingerprint:
        told.remember(address, found)
        _remembered[address] = found.fingerprint
    return found


def _address(target: TargetSettings) -> tuple[str, ...]:
    return (*remote.address(target), *([RUNTIME] if target.runtime == RUNTIME else []))


def _tensorrt_there(target: TargetSettings) -> dict[str, str]:
    """What an engine built there belongs to, asked once by running the program. Raises UsageError if nothing can."""
    key = (*_address(target), os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    if key not in _known:
        described = describe_tensorrt(target)
        if "error" in described:
            raise failure(f"target '{target.name}'", described["error"])
        _known[key] = {name: str(described[name]) for name in BELONGS_TO}
    return _known[key]


def describe_tensorrt(target: TargetSettings) -> dict[str, Any]:
    """What an engine built on the target would belong to, and the GPU's memory; or under `error` what is missing.

    An error has a `kind` (`library` or `gpu`) and a `message` that says what to do.
    """
    request = {"describe": True, "target": target.name, "stop_with_stdin": True}
    return run_program(target, program_for(RUNTIME), request)


def facts_for_plan(target: TargetSettings) -> tuple[Facts | None, str]:
    """(what is known of the target, what to say if it is not from now): a plan is made also while a device is away."""
    address = _address(target)
    if address in _away and time.monotonic() - _away[address][0] < AWAY_SECONDS:
        return told.remembered(address), _away[address][1]
    try:
        return facts_of(target), ""
    except CompressError as error:
        away = "is not reachable" if isinstance(error, failures.UnreachableError) else "cannot be used"
        _away[address] = (time.monotonic(), f"{away}: {error}")
        return told.remembered(address), _away[address][1]


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
        return ["fp32", "ort-x86" if VNNI.intersection(found.machine["features"]) else "ort-x86-avx2"]
    return ["fp32", "ort-arm"] if architecture in ARM else ["fp32"]


def run_program(
    target: TargetSettings,
    program: Path,
    request: Mapping[str, Any],
    *,
    inputs: Sequence[Path | Together] = (),
    outputs: Sequence[Path] = (),
    progress: Progress = _SILENT,
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Run a Python program of one file in a fresh process on the target: `python PROGRAM REQUEST.json RESULT.json`.

    Args:
        target: where.
        program: a file of the standard library and what is installed there; it reads the request and writes the result.
        request: plain data. A text in it that is the path of an input or output is, there, the path of its copy.
        inputs: files that the program reads, sent once by their content; a tuple's files lie together there.
        outputs: files that the program writes, fetched to these paths.
        progress: where it is said how much is sent, and that a lost connection is tried again.
        told: called with each line that the program writes on its standard output, as it comes.

    Raises:
        UsageError: The target refuses us, or has no Python that will do.
        UnreachableError: It is away, or was lost and did not come back.
        StageError: The program ends before its time, or the target's disk is full.
    """
    groups = [(item,) if isinstance(item, Path) else item for item in inputs]
    run = KINDS[target.kind].run
    return run(target, program, request, inputs=groups, outputs=outputs, progress=progress, told=told)


def cores_for(target: TargetSettings) -> list[int]:
    """The cores to pin to: those of the target, else the last ones that may be used (interrupts prefer the first)."""
    if target.cores is not None:
        return sorted(target.cores)
    usable = available_cores() if target.is_local else list(facts_of(target).usable_cores)
    if target.threads > len(usable):
        message = f"{target.threads} threads asked for, but only {len(usable)} cores may be used there"
        raise UsageError(f"target '{target.name}': threads: {message}")
    return usable[-target.threads :]


def run_jobs(
    target: TargetSettings,
    jobs: Mapping[str, Job],
    progress: Progress = _SILENT,
    told: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Do `jobs` one after the other in one fresh process on the target.

    Returns:
        The result of each job by name, and what is said about the machine: `machine`, `conditions`, `versions`.

    Raises:
        UsageError: A file is no model that the runtime can load, or a shape or provider that it needs is not there.
        StageError: A model fails when it is run, or the process itself ends before its time.
        UnreachableError: The target is away, or was lost and did not come back.
    """
    if target.perf_test:
        return perf_test.run_jobs(target, jobs)
    if not target.is_local:
        require(target)
    request = {
        "provider": target.execution_provider,
        "threads": target.threads,
        "cores": cores_for(target),
        "stop_with_stdin": True,
        "jobs": list(jobs.values()),
    }
    if target.runtime == RUNTIME:
        request["target"] = target.name
    inputs, outputs = _files(jobs)
    program = program_for(target.runtime)
    result = run_program(target, program, request, inputs=inputs, outputs=outputs, progress=progress, told=told)
    if not target.is_local and facts_of(target).emulated:
        result["emulated"] = True
    done = dict(zip(jobs, result.pop("jobs"), strict=True))
    for name, outcome in done.items():
        if "error" in outcome:
            raise failure(name, outcome["error"])
    return done, result


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


def _files(jobs: Mapping[str, Job]) -> tuple[list[Path | Together], list[Path]]:
    """The files that jobs read and write."""
    inputs: list[Path | Together] = []
    outputs: list[Path] = []
    for job in jobs.values():
        inputs.append(model_files(Path(job["model"])))
        asked = job.get("answers")
        if asked is not None:
            arrays = [*asked["inputs"].values(), *asked.get("lengths", {}).values()]
            arrays += [asked["targets"]] if asked.get("condense") == "tokens" else []
            inputs += map(Path, arrays)
            outputs.append(Path(asked["output"]))
        if (built := job.get("build")) is not None:
            cache = built["timing_cache"] or {}
            outputs += [Path(path) for path in (built["engine"], built["facts"], cache.get("write")) if path]
            inputs += [Path(path) for path in (cache.get("read"),) if path]
    return inputs, outputs
