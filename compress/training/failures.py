"""Errors that cross from one process to another without losing their kind or their text."""

from __future__ import annotations

import json
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from compress.errors import CompressError, Fault, StageError, UsageError

_PATTERN = "failure-*.json"


def write_failure(folder: Path, rank: int, error: BaseException) -> None:
    """Put down what ended process `rank`."""
    kind = "usage" if isinstance(error, UsageError) else "stage" if isinstance(error, CompressError) else "bug"
    plain = {
        "kind": kind,
        "rank": rank,
        "when": time.time(),
        "faults": [asdict(fault) for fault in error.faults] if isinstance(error, UsageError) else [],
        "message": str(error) if kind != "bug" else "".join(traceback.format_exception(error)),
    }
    draft = folder / f"draft-{rank}"
    draft.write_text(json.dumps(plain))
    draft.rename(folder / f"failure-{rank}.json")


def read_failure(folder: Path) -> Exception | None:
    """The error that explains the others: a user's before a bug, then the first. None if none was put down.

    When one process fails, its peers lose their connection and fail too; theirs are not what went wrong.
    """
    found = [json.loads(path.read_text()) for path in folder.glob(_PATTERN)]
    if not found:
        return None
    cause = min(found, key=lambda plain: (plain["kind"] == "bug", plain["when"]))
    if cause["kind"] == "usage":
        return UsageError([Fault(**fault) for fault in cause["faults"]])
    if cause["kind"] == "stage":
        return StageError(cause["message"])
    return RuntimeError(f"training process {cause['rank']} failed:\n{cause['message']}")
