"""A target: somewhere to run the measuring program. One kind of target a file, one line in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from compress.errors import CompressError, StageError, UsageError
from compress.targets.local import run_here
from compress.targets.settings import TargetSettings

Job = Mapping[str, Any]
"""What the measuring program is asked to do with one model; see `compress.targets.measure`."""


class Run(Protocol):
    """Runs the measuring program once, in a fresh process on the target, and returns its whole result."""

    def __call__(self, target: TargetSettings, jobs: Sequence[Job]) -> dict[str, Any]:
        """The measuring program's result for `jobs`."""


KINDS: dict[str, Run] = {
    "local": run_here,
}
FAILURES: dict[str, Callable[[str], CompressError]] = {
    "model": UsageError,
    "axes": UsageError,
    "provider": UsageError,
    "run": StageError,
}
"""What the measuring program says went wrong -> whose fault that is."""


def failure(name: str, error: Mapping[str, str]) -> CompressError:
    """The measuring program's `error` about the file `name`, to be raised."""
    return FAILURES[error["kind"]](f"{name}: {error['message']}")


def run_jobs(target: TargetSettings, jobs: Mapping[str, Job]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Do `jobs` one after the other in one fresh process on the target.

    Returns:
        The result of each job by name, and what is said about the machine: `machine`, `conditions`, `versions`.

    Raises:
        UsageError: A file is no model that the runtime can load, or a shape or provider that it needs is not there.
        StageError: A model fails when it is run, or the process itself ends before its time.
    """
    result = KINDS[target.kind](target, list(jobs.values()))
    done = dict(zip(jobs, result.pop("jobs"), strict=True))
    for name, outcome in done.items():
        if "error" in outcome:
            raise failure(name, outcome["error"])
    return done, result
