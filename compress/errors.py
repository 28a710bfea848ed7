"""The errors that a user can cause, each with its exit status.

Everything else that goes wrong is our bug: it ends in a full traceback and exit status 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DONE, BUG, WRONG_CALL, STAGE_FAILED, BUDGET_MISSED, FAULTS_FOUND, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in what the user wrote.

    `where` is a YAML path such as `stages[1].prune.keep`, a file name, or empty; `line` counts from 1.
    """

    message: str
    where: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.file and self.line else "")
        return ": ".join(part for part in (place, self.where, self.message) if part)


class CompressError(Exception):
    """Something that a user can cause; its text says what is wrong, where, and what to do next."""

    exit_status = STAGE_FAILED


class UsageError(CompressError):
    """The pipeline, its data, its models or the call are wrong. Lists every fault at once. Exit status 2."""

    exit_status = WRONG_CALL

    def __init__(self, faults: str | Fault | Sequence[Fault]) -> None:
        if isinstance(faults, str):
            faults = [Fault(faults)]
        self.faults: tuple[Fault, ...] = (faults,) if isinstance(faults, Fault) else tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


class StageError(CompressError):
    """A stage could not do what was asked (diverged, ran out of disk, lost its target). Exit status 3."""


class BudgetMissedError(CompressError):
    """Everything was done and reported, but no file meets the budget. Exit status 4."""

    exit_status = BUDGET_MISSED


class FindingsError(CompressError):
    """A file was looked at, and it is not fit for what it is meant for. Exit status 5."""

    exit_status = FAULTS_FOUND
