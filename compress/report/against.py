"""Each file beside the reference's: paired intervals of times, and the test examples whose class is another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compress.plan import Plan
from compress.profiling.statistics import ratio_interval
from compress.run import Done

FLIP_KEYS = (
    "became_wrong", "became_right", "stayed_wrong", "negative_flip_rate", "negative_flip_rate_ci95", "mcnemar_p",
)  # fmt: skip
"""What every file's row tells of its flips."""
Shown = Callable[[str], list[dict[str, Any]]]
"""Digest of an evaluation's artifact -> the examples that it kept to be looked at."""


def nothing_shown(digest: str) -> list[dict[str, Any]]:
    """No examples: of evaluations whose artifacts are not at hand."""
    return []


def flips_of(plan: Plan, done: Mapping[str, Done], name: str, shown: Shown) -> dict[str, Any] | None:
    """Which test examples changed their class between the reference's file and `name`; None without classes."""
    row = next(row for row in plan.rows if row.name == name)
    target, step = next(iter(row.evaluations.items()))
    record = done[step].record
    moved = record.metrics["test"].get("flips")
    if moved is None:
        return None
    return {"file": name, "reference": plan.reference, "target": target, **moved, "shown": shown(record.digest)}


def time_against_reference(models: Sequence[dict[str, Any]], reference: str) -> None:
    """Give each measurement its paired interval: files were measured in turns, so that drift moves both alike."""
    rows = {model["name"]: model["latency"] for model in models}
    before = {(entry["target"], entry["batch"]): entry for entry in rows[reference]}
    for name, entries in rows.items():
        for entry in entries:
            other = before.get((entry["target"], entry["batch"]))
            if name == reference or other is None or entry.get("emulated"):
                continue
            ours, theirs = (one.get("rounds_ms") or () for one in (entry, other))
            if len(ours) == len(theirs) > 1:
                first, second = ([np.asarray(calls) for calls in rounds] for rounds in (theirs, ours))
                entry["speedup_ci95"] = [round(end, 6) for end in ratio_interval(first, second)]
