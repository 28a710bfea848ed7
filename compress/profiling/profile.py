"""Profiles: latency, throughput, load time and memory of files on a target, comparable because interleaved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from compress.errors import UsageError
from compress.profiling.statistics import Ratio, Samples, p50_interval, percentile, ratio_interval, thin
from compress.stage import Progress, Silent
from compress.targets.settings import TargetSettings
from compress.targets.target import run_jobs

KEPT_PER_ROUND = 200
THROUGHPUT_ROUNDS = 3
DIGITS = 6  # of milliseconds: nanoseconds
STEADY = 0.05
"""By how much the first file may differ from itself (A/A) before comparisons are no verdict, as a fraction."""
_SILENT = Silent()


@dataclass(frozen=True)
class Latency:
    """One row of a report: a file on a target at one batch size. `throughput_per_s` is in examples, at a larger batch.

    `shape` is that of each input by name; `rounds_ms` holds the sorted samples of each round, thinned to at most 200.
    """

    target: str
    runtime: str
    threads: int
    batch: int
    shape: dict[str, list[int]]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p50_ci95_ms: tuple[float, float]
    samples: int
    throughput_per_s: float
    peak_memory_bytes: int
    load_ms: float
    rounds_ms: list[list[float]] = field(repr=False)

    def row(self) -> dict[str, Any]:
        """Plain data, for reports."""
        return {**asdict(self), "p50_ci95_ms": list(self.p50_ci95_ms)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Latency:
        """The inverse of `row`."""
        known = {item.name: row[item.name] for item in fields(cls)}
        return cls(**{**known, "p50_ci95_ms": tuple(row["p50_ci95_ms"])})


@dataclass(frozen=True)
class Profile(Mapping[str, list[Latency]]):
    """The rows of each file by its name, and how far they can be trusted.

    `repeat` is p50 of the first file over p50 of the same file measured again among the others (None in a rehearsal);
    `notes` are sentences for the user; `machine` is what the measuring program said of the place.
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
    """p50 of `first` over p50 of `second`, of one profile: how many times faster `second` is, with a 95 % interval."""
    low, high = ratio_interval(_rounds(first), _rounds(second))
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
    if rehearsal:
        jobs = {
            name: {"model": str(path), "latency": _request(target, axes[name], throughput=True, rehearsal=True)}
            for name, path in files.items()
        }
        done, machine = run_jobs(target, jobs)
        return Profile({name: _rows(target, [result]) for name, result in done.items()}, None, (), machine)
    results, machine = _interleaved(files, target, axes, progress)
    *measured, repeated = [_rows(target, found) for found in results]
    repeat = compare(measured[0][0], repeated[0])
    return Profile(dict(zip(files, measured, strict=True)), repeat, _notes(repeat), machine)


def _interleaved(
    files: Mapping[str, Path], target: TargetSettings, axes: Mapping[str, Mapping[str, int]], progress: Progress
) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """For each file, then for the first one again, the measuring program's result of each round; and the machine."""
    entries = [*files.items(), next(iter(files.items()))]
    results: list[list[dict[str, Any]]] = [[] for _ in entries]
    machine: dict[str, Any] = {}
    with progress.task(f"measuring on {target.name}", target.rounds * len(entries)) as advance:
        for index in range(target.rounds):
            for turn in turns(len(entries), index):
                name, path = entries[turn]
                request = _request(target, axes[name], throughput=turn < len(files) and index < THROUGHPUT_ROUNDS)
                done, machine = run_jobs(target, {name: {"model": str(path), "latency": request}})
                results[turn].append(done[name])
                advance(1, note=name)
    return results, machine


def turns(count: int, index: int) -> list[int]:
    """The order of round `index`: each of `count` files has each place in turn, forwards and then backwards."""
    shift = index // 2 % count
    order = [*range(shift, count), *range(shift)]
    return order if index % 2 == 0 else order[::-1]


def _request(
    target: TargetSettings, axes: Mapping[str, int], *, throughput: bool, rehearsal: bool = False
) -> dict[str, Any]:
    """What to ask of the measuring program for one file in one round."""
    return {
        "batches": list(target.batches),
        "axes": dict(axes),
        "warmup_seconds": 0.0 if rehearsal else target.warmup_seconds,
        "seconds": 0.0 if rehearsal else target.seconds,
        "minimum_calls": 2 if rehearsal else 5,
        "throughput_batch": target.throughput_batch if throughput else None,
        "throughput_seconds": 0.0 if rehearsal else target.throughput_seconds,
    }


def _rows(target: TargetSettings, results: Sequence[Mapping[str, Any]]) -> list[Latency]:
    """A file's rows, one a batch size, from what the measuring program gave in each round."""
    return [_row(target, results, index) for index in range(len(results[0]["runs"]))]


def _row(target: TargetSettings, results: Sequence[Mapping[str, Any]], index: int) -> Latency:
    runs = [result["runs"][index] for result in results]
    over_base = [run["peak_bytes"] - result["base_bytes"] for run, result in zip(runs, results, strict=True)]
    speeds = [result["throughput"]["examples_per_second"] for result in results if "throughput" in result]
    rounds: list[Samples] = [np.asarray(run["samples_ns"]) / 1e6 for run in runs]
    kept = [thin(samples, KEPT_PER_ROUND) for samples in rounds]
    low, high = p50_interval(kept)
    return Latency(
        target=target.name,
        runtime=target.runtime,
        threads=target.threads,
        batch=runs[0]["batch"],
        shape=runs[0]["shapes"],
        p50_ms=percentile(rounds, 50),
        p90_ms=percentile(rounds, 90),
        p99_ms=percentile(rounds, 99),
        p50_ci95_ms=(round(low, DIGITS), round(high, DIGITS)),
        samples=sum(map(len, rounds)),
        throughput_per_s=round(median(speeds), 3) if speeds else 0.0,
        peak_memory_bytes=int(median(over_base)),
        load_ms=round(median(result["load_ms"] for result in results), DIGITS),
        rounds_ms=[[round(float(value), DIGITS) for value in samples] for samples in kept],
    )


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
