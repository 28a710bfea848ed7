"""Where a file's time goes: by kind of operator, as the runtime itself counts it on the target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress.stage import Progress, Silent
from compress.targets.settings import TargetSettings
from compress.targets.target import run_jobs

BOUNDARIES = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
"""Operators that only lead from float to int8 or back."""
MOVERS = frozenset({"Transpose", "ReorderInput", "ReorderOutput"})
"""Operators that only change the order of numbers in memory."""
FLOAT_LAYERS = frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
SHORTEST_SHARE = 0.03
SMALL_CHANNELS = 16
_SILENT = Silent()


def operator_times(
    files: Mapping[str, Path],
    target: TargetSettings,
    *,
    sizes: Mapping[str, int] | None = None,
    seconds: float = 0.3,
    progress: Progress = _SILENT,
) -> dict[str, list[dict[str, Any]]]:
    """For each file its kinds of operators, the dearest first: `operator`, `count`, `microseconds` of one call.

    At the target's smallest batch; `sizes` are those of dynamic axes besides the batch.

    Raises:
        UsageError: A file cannot be loaded, or an axis needs a size.
        StageError: A model fails when it is run.
    """
    request = {
        "batch": min(target.batches),
        "axes": {**(sizes or {}), **target.shapes},
        "seconds": seconds,
        "minimum_calls": 5,
    }
    found = {}
    with progress.task("time per operator", len(files)) as advance:
        for name, path in files.items():
            done, _ = run_jobs(target, {name: {"model": str(path), "operators": request}})
            found[name] = by_kind(done[name]["operators"])
            advance()
    return found


def by_kind(operators: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sums over the operators of one kind, the dearest first."""
    sums: dict[str, list[float]] = {}
    for item in operators:
        sums.setdefault(item["operator"] or "other", []).append(float(item["microseconds"]))
    rows = [
        {"operator": kind, "count": len(times), "microseconds": round(sum(times), 3)} for kind, times in sums.items()
    ]
    return sorted(rows, key=lambda row: -float(str(row["microseconds"])))


def what_costs(
    int8: list[dict[str, Any]], floating: list[dict[str, Any]], narrow: int = 0, layers: int = 0
) -> list[str]:
    """Why an int8 file is not faster than its float one, in sentences, the dearest reason first.

    `narrow` of `layers` layers have fewer than `SMALL_CHANNELS` channels.
    """
    total = sum(row["microseconds"] for row in int8) or 1.0

    def of(kinds: frozenset[str]) -> tuple[float, int]:
        rows = [row for row in int8 if row["operator"] in kinds]
        return sum(row["microseconds"] for row in rows), sum(row["count"] for row in rows)

    found: list[tuple[float, str]] = []
    for kinds, words in (
        (BOUNDARIES, "go from float to int8 or back"),
        (FLOAT_LAYERS, "are layers that did not run in int8"),
        (MOVERS, "only move numbers in memory"),
    ):
        microseconds, count = of(kinds)
        if microseconds / total >= SHORTEST_SHARE:
            found.append((microseconds, f"{count} operators {words}: {microseconds / total:.0%} of its time"))
    before = {row["operator"] for row in floating}
    for row in int8:
        extra = row["operator"] not in before and row["operator"] not in BOUNDARIES | MOVERS
        if extra and row["microseconds"] / total >= 0.1 and row["operator"] not in ("QLinearConv", "QGemm"):
            share = row["microseconds"] / total
            found.append((row["microseconds"], f"{row['count']} {row['operator']}: {share:.0%} of its time"))
    if layers and narrow / layers >= 0.25:
        found.append((0.0, f"{narrow} of {layers} layers have fewer than {SMALL_CHANNELS} channels, too few for int8"))
    return [words for _, words in sorted(found, key=lambda pair: -pair[0])]
