"""A file against the reference's float file: times faster, times smaller, metric lost, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.report.rows import Interval, Model, Report, ends


@dataclass(frozen=True)
class Comparison:
    """`loss` is how much of the primary metric is lost, in the metric's unit: negative if the file is better."""

    speedup: float | None
    speedup_ci95: Interval | None
    size_ratio: float | None
    loss: float | None
    loss_ci95: Interval | None


def compare(report: Report, model: Model, target: str | None = None) -> Comparison | None:
    """`model` against the reference's file on `target` (the main one by default); None if it is that file."""
    reference = report.reference_file
    if reference is None or reference is model:
        return None
    on = target or report.target
    before, after = (row.on(on) for row in (reference, model))
    speedup = speedup_ci95 = None
    if report.is_emulated(on):
        before = None
    if before is not None and after is not None and before.batch == after.batch and after.p50_ms > 0:
        speedup = before.p50_ms / after.p50_ms
        speedup_ci95 = after.speedup_ci95 or ratio_interval(
            before.p50_ms, before.p50_ci95_ms, after.p50_ms, after.p50_ci95_ms
        )
    size_ratio = reference.size_bytes / model.size_bytes if reference.size_bytes and model.size_bytes else None
    if on != report.target and model.judged_on(on):
        return Comparison(
            speedup, speedup_ci95, size_ratio, *_loss(report, reference.judged_on(on), model.judged_on(on))
        )
    return Comparison(speedup, speedup_ci95, size_ratio, *_loss(report, reference.metrics, model.metrics))


def _loss(
    report: Report, reference: Mapping[str, Any], model: Mapping[str, Any]
) -> tuple[float | None, Interval | None]:
    before, after = (metrics.get(report.metric) for metrics in (reference, model))
    if before is None or after is None:
        return None, None
    before_ci95, after_ci95 = (ends(metrics.get(f"{report.metric}_ci95")) for metrics in (reference, model))
    paired = ends(model.get(f"{report.metric}_drop_ci95"))
    if report.higher_is_better:
        return before - after, paired or difference_interval(before, before_ci95, after, after_ci95)
    return after - before, paired or difference_interval(after, after_ci95, before, before_ci95)


def difference_interval(a: float, a_ci95: Interval | None, b: float, b_ci95: Interval | None) -> Interval | None:
    """The 95 % interval of a - b from the intervals of a and b, as if they were independent.

    Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10; the same
    for any estimate: Zou and Donner 2008, eq. 9 (MOVER). Two models judged on the same examples err together, so
    that this interval is wider than a paired one.
    """
    if a_ci95 is None or b_ci95 is None:
        return None
    below = math.hypot(a - a_ci95[0], b_ci95[1] - b)
    above = math.hypot(a_ci95[1] - a, b - b_ci95[0])
    return (a - b - below, a - b + above)


def ratio_interval(a: float, a_ci95: Interval | None, b: float, b_ci95: Interval | None) -> Interval | None:
    """The 95 % interval of a / b for positive a and b: `difference_interval` of their logarithms."""
    if a_ci95 is None or b_ci95 is None or min(a, b, *a_ci95, *b_ci95) <= 0:
        return None
    logs = [math.log(value) for value in (a, *a_ci95, b, *b_ci95)]
    difference = difference_interval(logs[0], (logs[1], logs[2]), logs[3], (logs[4], logs[5]))
    assert difference is not None
    return (math.exp(difference[0]), math.exp(difference[1]))
