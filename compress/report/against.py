"""Each file beside the reference's: paired intervals of times, and the test examples whose class is another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compress.plan import Plan
from compress.profiling.statistics import LEAST_ROUNDS, Samples, percentile_interval, ratio_interval
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


def right_of(plan: Plan, done: Mapping[str, Done], name: str) -> dict[str, Any] | None:
    """Which test examples `name` answers rightly on the first target that it is judged on; None without accuracy."""
    row = next(row for row in plan.rows if row.name == name)
    target, step = next(iter(row.evaluations.items()))
    right = done[step].record.metrics["test"].get("right")
    return None if right is None else {"file": name, "target": target, **right}


def add_intervals(models: Sequence[dict[str, Any]], reference: str) -> None:
    """Give each measurement the interval of its p90, and of its speedup over the reference's of the same kind.

    Files were measured in turns, so that drift moves both alike: the interval of a speedup is a paired one. The p90 of
    mode full is an upper bound itself. Of too few rounds there is none.
    """
    rows = {model["name"]: model["latency"] for model in models}
    before = {_kind(entry): _rounds(entry) for entry in rows.get(reference, ())}
    for name, entries in rows.items():
        for entry in entries:
            ours, theirs = _rounds(entry), before.get(_kind(entry), [])
            if len(ours) < LEAST_ROUNDS or entry.get("emulated"):
                continue
            if entry.get("mode", "quick") == "quick" and entry.get("p90_ms") is not None:
                entry["p90_ci95_ms"] = _rounded(percentile_interval(ours, 90))
            if name != reference and len(ours) == len(theirs):
                entry["speedup_ci95"] = _rounded(ratio_interval(theirs, ours))


def _kind(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two measurements must have in common to be compared."""
    return entry["target"], entry["batch"], entry.get("threads"), entry.get("emulated", False)


def _rounds(entry: Mapping[str, Any]) -> list[Samples]:
    return [np.asarray(calls, dtype=np.float64) for calls in entry.get("rounds_ms") or ()]


def _rounded(ends: tuple[float, float]) -> list[float]:
    return [round(end, 6) for end in ends]
