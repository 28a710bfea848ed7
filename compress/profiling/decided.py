"""Files measured until it is no chance which of them is chosen: whether int8 or float is faster."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from compress.profiling.latency import Latency
from compress.profiling.operator_times import BOUNDARIES
from compress.profiling.profile import Profile, profile
from compress.profiling.statistics import LEAST_ROUNDS
from compress.profiling.worth import Timed, gain
from compress.stage import Progress, Silent
from compress.targets.failures import UnreachableError
from compress.targets.settings import TargetSettings

REPEATS = 2
ROUNDED = BOUNDARIES | {"MatMulNBits"}
"""Operators of which every file that computes with integers has one; see `compress.exporting`."""
_SILENT = Silent()


def profile_until_decided(
    files: Mapping[str, Path],
    target: TargetSettings,
    integer: Collection[str],
    *,
    sizes: Mapping[str, Mapping[str, int]] | None = None,
    progress: Progress = _SILENT,
) -> Profile:
    """The profile of files, of which those named in `integer` compute with integers, as `profile.profile` makes it.

    Where it may be chance whether int8 or float is faster, all are measured again with twice as many rounds, at most
    `REPEATS` times. Times of an emulated processor decide nothing, and a target that was lost is not asked again: what
    was measured before is then kept, and said to be `incomplete`.

    Raises:
        UsageError: A file is missing or cannot be loaded, or an axis needs a size.
        StageError: A model fails when it is run.
    """
    found = profile(files, target, sizes=sizes, progress=progress)
    for more in range(1, REPEATS + 1):
        says_nothing = target.emulated or any(found.machine.get(said) for said in ("emulated", "incomplete"))
        if says_nothing or not is_chance(found, integer):
            break
        progress.say("whether int8 is faster may be chance: measuring again with twice as many rounds")
        twice = target.model_copy(update={"rounds": target.rounds * 2**more})
        try:
            again = profile(files, twice, sizes=sizes, progress=progress)
        except UnreachableError:
            return _without_the_last(found, target)
        if again.machine.get("incomplete") and _rounds(again) < _rounds(found):
            return _without_the_last(found, target)
        found = again
    return found


def is_chance(found: Mapping[str, list[Latency]], integer: Collection[str]) -> bool:
    """Whether it may be chance that the fastest int8 file is faster, or slower, than a float one.

    What each file loses is not known here, so that any float file may be the one to beat. Whoever asks for fewer rounds
    than an interval takes wants a quick look: it stays with those.
    """
    first = [_timed(name, rows, name in integer) for name, rows in found.items()]
    quick = min((one for one in first if one.is_int8), key=lambda one: one.p50_ms, default=None)
    if quick is None or len(quick.rounds_ms) < LEAST_ROUNDS:
        return False
    speedups = [gain(quick, over) for over in first if not over.is_int8]
    return any(speedup.low <= 1 <= speedup.high for speedup in speedups)


def computes_with_integers(model: Path) -> bool:
    """Whether an ONNX file is quantized, or its weights are."""
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    return any(node.op_type in ROUNDED for node in graph.node)


def _timed(name: str, rows: list[Latency], is_int8: bool) -> Timed:
    row = min(rows, key=lambda row: row.batch)
    return Timed(name, is_int8, row.p50_ms, row.rounds_ms, noise=row.noise)


def _rounds(found: Profile) -> int:
    return min(len(rows[0].rounds_ms) for rows in found.values())


def _without_the_last(found: Profile, target: TargetSettings) -> Profile:
    """What was measured before a target was lost."""
    said = (
        f"{target.name} was lost while it measured again whether int8 is faster: its times are of {_rounds(found)} "
        "rounds; the same command measures again"
    )
    return replace(found, machine={**found.machine, "incomplete": said}, notes=(said, *found.notes))
