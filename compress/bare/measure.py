"""The files of a bare model timed against each other, and which of them to deploy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.bare.files import HERE, File
from compress.profiling.operator_times import operator_times, what_costs
from compress.profiling.profile import Latency, Profile, compare, profile
from compress.profiling.statistics import Ratio
from compress.stage import Progress
from compress.targets.settings import TargetSettings


@dataclass(frozen=True)
class Measured:
    """What was timed; files for other runtimes are not."""

    profile: Profile
    operators: Mapping[str, list[dict[str, Any]]] = field(repr=False)

    def latency(self, name: str) -> Latency | None:
        """At the smallest batch."""
        rows = self.profile.latencies.get(name)
        return min(rows, key=lambda row: row.batch) if rows else None

    def speedup(self, name: str, over: str) -> Ratio | None:
        """How many times faster one file is than another, with its interval."""
        first, second = self.latency(over), self.latency(name)
        return None if first is None or second is None else compare(first, second)


def measure(files: Sequence[File], target: TargetSettings, shapes: Mapping[str, int], progress: Progress) -> Measured:
    """Interleaved rounds of fresh processes over all files that the target's runtime is meant to run."""
    runs = {item.name: item.path for item in files if not item.is_int8 or item.name in HERE}
    place = target.model_copy(update={"shapes": {**target.shapes, **shapes}})
    found = profile(runs, place, progress=progress)
    return Measured(found, operator_times(runs, place, progress=progress))


def choose(files: Sequence[File], measured: Measured, budget: float) -> tuple[str, list[str]]:
    """The file to deploy and why: int8 only where it is within the budget and faster beyond chance than the best float.

    Reasons name what int8 costs where it does not pay.
    """
    floats = [item for item in files if not item.is_int8]
    best = min(floats, key=lambda item: _p50(measured, item.name))
    good = [item for item in files if item.is_int8 and item.judged.loss <= budget and measured.latency(item.name)]
    fast = min(good, key=lambda item: _p50(measured, item.name), default=None)
    if fast is None:
        lost = min((item for item in files if item.is_int8), key=lambda item: item.judged.loss)
        missed = lost.judged.loss > budget
        why = f"no int8 file is within the budget: {lost.name} loses {lost.judged.loss:.3g}, allowed is {budget:.3g}"
        return best.name, [why if missed else "no int8 file is for the runtime that was measured"]
    ratio = measured.speedup(fast.name, best.name)
    assert ratio is not None
    if ratio.low > 1:
        said = f"{fast.name} is {ratio.value:.2f}x faster than {best.name} ({ratio.low:.2f} to {ratio.high:.2f})"
        return fast.name, [f"{said} and loses {fast.judged.loss:.3g} (allowed: {budget:.3g})"]
    reasons = [f"int8 does not pay here: {fast.name} runs at {ratio.value:.2f}x of {best.name}'s speed"]
    reasons += what_costs(list(measured.operators[fast.name]), list(measured.operators[best.name]))
    if fast.share is not None and fast.share.not_int8:
        left = fast.share.not_int8
        reasons.append(f"{len(left)} operators stayed in float, such as {left[0]['name']}: {left[0]['reason']}")
    return best.name, reasons


def _p50(measured: Measured, name: str) -> float:
    latency = measured.latency(name)
    return float("inf") if latency is None else latency.p50_ms
