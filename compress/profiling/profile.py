"""Profiles: latency, throughput, load time, memory and energy of files on a target, comparable because interleaved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.errors import UsageError
from compress.profiling.conditions import STEADY, what_moved
from compress.profiling.early_stopping import smallest_sample
from compress.profiling.latency import Latency, latency_rows
from compress.profiling.statistics import LEAST_ROUNDS, UNKNOWN, Ratio, Samples, ratio_interval
from compress.stage import Progress, Silent
from compress.targets.engines import runnable
from compress.targets.failures import UnreachableError
from compress.targets.jobs import run_jobs
from compress.targets.settings import TargetSettings

THROUGHPUT_ROUNDS = 3
LEAST_CALLS = 5
"""In each process."""
LEAST_KEPT = 2
"""Rounds of a target that was lost which are told of."""
_SILENT = Silent()


@dataclass(frozen=True)
class Profile(Mapping[str, list[Latency]]):
    """The rows of each file by its name, and how far they can be trusted.

    Rows of the target's `threads` come first, the smallest batch first, then those of its `also_threads`.
    `repeat` is p50 of the first file over p50 of the same file measured again among the others (None in a rehearsal);
    `notes` are sentences for the user; `machine` is what the measuring program said of the place, and under `rounds`
    what the place was like before and after each process.
    """

    latencies: dict[str, list[Latency]]
    repeat: Ratio | None
    notes: tuple[str, ...]
    machine: dict[str, Any] = field(repr=False)

    def __getitem__(self, name: str) -> list[Latency]:
        return self.latencies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.latencies)

    def __len__(self) -> int:
        return len(self.latencies)


def compare(first: Latency, second: Latency) -> Ratio:
    """p50 of `first` over p50 of `second`, of one profile: how many times faster `second` is, with a 95 % interval.

    Of too few rounds the interval is from 0 to infinity.
    """
    few = len(first.rounds_ms) < LEAST_ROUNDS
    low, high = UNKNOWN if few else ratio_interval(_rounds(first), _rounds(second))
    return Ratio(first.p50_ms / second.p50_ms, low, high)


def profile_file(
    path: Path,
    target: TargetSettings,
    *,
    shapes: Mapping[str, int] | None = None,
    rehearsal: bool = False,
    progress: Progress = _SILENT,
) -> Profile:
    """Profile any ONNX file on made-up inputs; `shapes` gives the sizes of dynamic axes other than the batch by name.

    Raises:
        UsageError: The file is missing or cannot be loaded, or an axis needs a size.
        StageError: The model fails when it is run.
    """
    if wrong := [name for name, size in (shapes or {}).items() if size < 1]:
        raise UsageError(f"the size of axis '{wrong[0]}' must be at least 1")
    target = target.model_copy(update={"shapes": {**target.shapes, **(shapes or {})}})
    return profile({path.name: path}, target, rehearsal=rehearsal, progress=progress)


def profile(
    files: Mapping[str, Path],
    target: TargetSettings,
    *,
    sizes: Mapping[str, Mapping[str, int]] | None = None,
    rehearsal: bool = False,
    progress: Progress = _SILENT,
) -> Profile:
    """Measure files against each other: rounds of fresh processes, in which each file has its turn in changing order.

    The first file is measured twice over, as two files: by how much the two differ is what this machine can tell apart.
    A rehearsal runs each file a few times in one process and gives figures that mean nothing. `sizes` are those of each
    file's dynamic axes by its name, where the target's `shapes` do not say others.

    Raises:
        UsageError: A file is missing or cannot be loaded, or an axis needs a size.
        StageError: A model fails when it is run.
    """
    if not files:
        return Profile({}, None, (), {})
    if missing := [str(path) for path in files.values() if not path.is_file()]:
        raise UsageError(f"no such file: {', '.join(missing)}")
    axes = {name: {**(sizes or {}).get(name, {}), **target.shapes} for name in files}
    with runnable(files, target, axes, progress) as there:
        return _profile(there, target, axes, rehearsal, progress)


def _profile(
    files: Mapping[str, Path],
    target: TargetSettings,
    axes: Mapping[str, Mapping[str, int]],
    rehearsal: bool,
    progress: Progress,
) -> Profile:
    if rehearsal:
        jobs = {
            name: {"model": str(path), "latency": _request(target, axes[name], throughput=True, rehearsal=True)}
            for name, path in files.items()
        }
        done, machine = run_jobs(target, jobs)
        quick = target.model_copy(update={"mode": "quick"})
        return Profile({name: latency_rows(quick, [result]) for name, result in done.items()}, None, (), machine)
    entries = [Entry(name, path, place) for place in _places(target) for name, path in files.items()]
    results, machine = _interleaved([*entries, entries[0]], target, axes, progress)
    *measured, repeated = [
        latency_rows(entry.target, found) for entry, found in zip([*entries, entries[0]], results, strict=True)
    ]
    latencies: dict[str, list[Latency]] = {name: [] for name in files}
    repeat = compare(measured[0][0], repeated[0])
    for entry, rows in zip(entries, measured, strict=True):
        latencies[entry.name] += [replace(row, noise=round(abs(repeat.value - 1), 6)) for row in rows]
    said = dict.fromkeys(
        f"{entry.name} on {target.name}: {note}"
        for entry, found in zip(entries, results[:-1], strict=True)
        for result in found
        for note in result.get("notes", ())
    )
    return Profile(
        latencies,
        repeat,
        (*_of_the_place(target, machine), *_notes(repeat), *what_moved(machine["rounds"]), *said),
        machine,
    )


@dataclass(frozen=True)
class Entry:
    """What has a turn in each round: a file at a number of threads."""

    name: str
    path: Path
    target: TargetSettings


def _places(target: TargetSettings) -> list[TargetSettings]:
    """The target at each number of threads, its own first."""
    others = sorted(set(target.also_threads) - {target.threads})
    return [target, *(target.model_copy(update={"threads": threads}) for threads in others)]


def _interleaved(
    entries: Sequence[Entry], target: TargetSettings, axes: Mapping[str, Mapping[str, int]], progress: Progress
) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """For each entry, the last of which is the first one again, its result of each round; and the machine."""
    results: list[list[dict[str, Any]]] = [[] for _ in entries]
    machine: dict[str, Any] = {}
    rounds: list[dict[str, Any]] = []
    bulk = target.rounds if target.mode == "full" else THROUGHPUT_ROUNDS
    with progress.task(f"measuring on {target.name}", target.rounds * len(entries)) as advance:
        for index in range(target.rounds):
            for turn in turns(len(entries), index):
                name, place = entries[turn].name, entries[turn].target
                request = _request(place, axes[name], throughput=turn < len(entries) - 1 and index < bulk)
                job = {"model": str(entries[turn].path), "latency": request}
                try:
                    done, told = run_jobs(place, {name: job}, progress)
                except UnreachableError as error:
                    return _until_it_was_lost(results, {**machine, "rounds": rounds}, target, error)
                results[turn].append(done[name])
                state = {"before": told.pop("conditions_before", {}), "after": told.get("conditions", {})}
                rounds.append({"file": name, "threads": place.threads, **state})
                machine = told
                advance(1, note=name)
    return results, {**machine, "rounds": rounds}


def _until_it_was_lost(
    results: Sequence[list[dict[str, Any]]], machine: dict[str, Any], target: TargetSettings, error: UnreachableError
) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """The rounds in which every file had its turn, if there are two or more; else the error is raised."""
    kept = min(map(len, results))
    if kept < LEAST_KEPT:
        raise error
    said = (
        f"{target.name} was lost while it measured: its times are of {kept} of {target.rounds} rounds; the same "
        "command measures again"
    )
    return [rounds[:kept] for rounds in results], {**machine, "incomplete": said}


def turns(count: int, index: int) -> list[int]:
    """The order of round `index`: each of `count` files has each place in turn, forwards and then backwards."""
    shift = index // 2 % count
    order = [*range(shift, count), *range(shift)]
    return order if index % 2 == 0 else order[::-1]


def _request(
    target: TargetSettings, axes: Mapping[str, int], *, throughput: bool, rehearsal: bool = False
) -> dict[str, Any]:
    """What to ask of the measuring program for one file in one round.

    In mode `full` all rounds together have the calls that p99 takes at MLPerf's confidence, and its least duration.
    """
    seconds, calls = target.seconds, LEAST_CALLS
    if target.mode == "full":
        seconds = max(seconds, target.least_seconds / target.rounds)
        calls = max(calls, -(-smallest_sample(99) // target.rounds))
    return {
        "batches": list(target.batches),
        "axes": dict(axes),
        "warmup_seconds": 0.0 if rehearsal else target.warmup_seconds,
        "seconds": 0.0 if rehearsal else seconds,
        "minimum_calls": 2 if rehearsal else calls,
        "throughput_batches": list(target.throughput_batches) if throughput else None,
        "throughput_seconds": 0.0 if rehearsal else target.throughput_seconds,
    }


def _of_the_place(target: TargetSettings, machine: Mapping[str, Any]) -> tuple[str, ...]:
    """What to tell of a target that is no real processor, or that was lost on the way."""
    found = [str(machine["incomplete"])] if machine.get("incomplete") else []
    if machine.get("emulated"):
        found.append(f"the processor of {target.name} is emulated: its times mean nothing, and are compared with none")
    return tuple(found)


def _notes(repeat: Ratio) -> tuple[str, ...]:
    """What to tell the user of how steady the machine was."""
    apart = abs(repeat.value - 1)
    if apart <= STEADY:
        return ()
    return (
        f"this machine was not steady: one file measured twice differed from itself by {apart:.1%} at p50 "
        f"(more than {STEADY:.0%}), "
        "so that differences of this size between files mean nothing; measure again when it is quiet",
    )


def _rounds(latency: Latency) -> list[Samples]:
    return [np.asarray(samples) for samples in latency.rounds_ms]
