"""Measuring models on a target: jobs for the measuring program, the files that they need, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compress.stage import Progress, Silent
from compress.targets import failures, perf_test
from compress.targets.execution import Execution, Together
from compress.targets.kinds import run_program
from compress.targets.model_files import model_files
from compress.targets.programs import program_for
from compress.targets.settings import TargetSettings
from compress.targets.target import cores_for, facts_of, require
from compress.targets.tensorrt_settings import RUNTIME

Job = Mapping[str, Any]
"""What the measuring program is asked to do with one model; see `compress.targets.measuring`."""
_SILENT = Silent()


def run_jobs(
    target: TargetSettings,
    jobs: Mapping[str, Job],
    progress: Progress = _SILENT,
    told: Callable[[str], None] | None = None,
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
    result = run_program(target, Execution(program, request, inputs, outputs, progress, told))
    if not target.is_local and facts_of(target).emulated:
        result["emulated"] = True
    done = dict(zip(jobs, result.pop("jobs"), strict=True))
    for name, outcome in done.items():
        if "error" in outcome:
            raise failures.failure(name, outcome["error"])
    return done, result


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
