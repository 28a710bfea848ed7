"""The files of a bare model timed against each other, and which of them to deploy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.bare.files import HERE, File
from compress.profiling.decided import profile_until_decided
from compress.profiling.latency import Latency
from compress.profiling.operator_times import layer_channels, operator_times, what_costs
from compress.profiling.profile import Profile
from compress.profiling.worth import Timed, Worth, fastest, worth
from compress.stage import Progress
from compress.targets.settings import TargetSettings


@dataclass(frozen=True)
class Measured:
    """What was timed; files for other runtimes are not."""

    profile: Profile
    operators: Mapping[str, list[dict[str, Any]]] = field(repr=False)
    channels: Mapping[str, list[int]] = field(default_factory=dict, repr=False)

    def latency(self, name: str) -> Latency | None:
        """At the smallest batch."""
        rows = self.profile.latencies.get(name)
        return min(rows, key=lambda row: row.batch) if rows else None


def measure(files: Sequence[File], target: TargetSettings, shapes: Mapping[str, int], progress: Progress) -> Measured:
    """Interleaved rounds of fresh processes over all files that the target's runtime is meant to run.

    Measured again with more rounds where it may be chance whether int8 or float is faster.
    """
    runs = {item.name: item.path for item in files if not item.is_int8 or item.name in HERE}
    integer = {item.name for item in files if item.is_int8}
    place = target.model_copy(update={"shapes": {**target.shapes, **shapes}})
    found = profile_until_decided(runs, place, integer, progress=progress)
    channels = {name: layer_channels(path) for name, path in runs.items()}
    return Measured(found, operator_times(runs, place, progress=progress), channels)


def choose(files: Sequence[File], measured: Measured, budget: float) -> tuple[str, list[str]]:
    """The file to deploy and why: int8 only where it is within the budget and faster beyond chance than the best float.

    Reasons name what int8 costs where it does not pay.
    """
    timed = {item.name: _timed(item, found) for item in files if (found := measured.latency(item.name)) is not None}
    good = [one for one in files if one.name in timed and one.judged.loss <= budget]
    chosen = fastest([timed[one.name] for one in good])
    weighed = weigh(files, measured, budget)
    if weighed is not None:
        return chosen.name, [weighed.said, *weighed.reasons]
    lost = min((item for item in files if item.is_int8), key=lambda item: item.judged.loss)
    if lost.judged.loss > budget:
        return chosen.name, [f"no int8 file is within the budget: {lost.name} {_lost(lost, budget)}"]
    return chosen.name, ["no int8 file is for the runtime that was measured"]


def weigh(files: Sequence[File], measured: Measured, budget: float) -> Worth | None:
    """Whether int8 pays: the best int8 file that was measured beside the best float one; None if none was."""
    runs = [(item, found) for item in files if (found := measured.latency(item.name)) is not None]
    int8 = [pair for pair in runs if pair[0].is_int8]
    if not int8:
        return None
    item, latency = min(int8, key=lambda pair: (pair[0].judged.loss > budget, pair[1].p50_ms))
    floating, beside = min((pair for pair in runs if not pair[0].is_int8), key=lambda pair: pair[1].p50_ms)
    ours, theirs = (measured.operators.get(one.name, []) for one in (item, floating))
    left = () if item.share is None else item.share.not_int8
    missed = _lost(item, budget) if item.judged.loss > budget else ""
    costs = what_costs(ours, theirs, left, measured.channels.get(item.name, ()))
    return worth(_timed(item, latency), _timed(floating, beside), missed=missed, costs=costs)


def _lost(item: File, budget: float) -> str:
    return f"loses {item.judged.loss:.3g}, allowed is {budget:.3g}"


def _timed(item: File, latency: Latency) -> Timed:
    return Timed(item.name, item.is_int8, latency.p50_ms, latency.rounds_ms, item.precision, latency.noise)
