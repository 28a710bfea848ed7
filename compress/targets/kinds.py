"""The kinds of targets: somewhere to run a program, above all the one that measures. One a file, one table line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compress.targets import local, remote
from compress.targets.execution import Execution
from compress.targets.facts import Facts
from compress.targets.settings import TargetSettings


@dataclass(frozen=True)
class Kind:
    """One kind of target: how a program runs there, and how it is asked what it is."""

    run: Callable[[TargetSettings, Execution], dict[str, Any]]
    facts: Callable[[TargetSettings], Facts]


KINDS: dict[str, Kind] = {
    "local": Kind(local.run_program, local.facts),
    "ssh": Kind(remote.run_program, remote.facts),
    "adb": Kind(remote.run_program, remote.facts),
}


def run_program(target: TargetSettings, execution: Execution) -> dict[str, Any]:
    """Run a program in a fresh process on the target; what it gave.

    Raises:
        UsageError: The target refuses us, or has no Python that will do.
        UnreachableError: It is away, or was lost and did not come back.
        StageError: The program ends before its time, or the target's disk is full.
    """
    return KINDS[target.kind].run(target, execution)
