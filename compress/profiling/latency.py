"""A file's rows in a report, one a batch size, from what the measuring program gave in each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import median
from typing import Any

import numpy as np

from compress.profiling.early_stopping import CONFIDENCE, smallest_sample, upper_percentile
from compress.profiling.statistics import LEAST_ROUNDS, Samples, p50_interval, percentile, thin
from compress.targets.settings import TargetSettings

KEPT_PER_ROUND = 200
DIGITS = 6  # of milliseconds: nanoseconds
TAILS = {"p90_ms": 90.0, "p99_ms": 99.0}
"""Percentiles of the slow end, as rows call them."""


@dataclass(frozen=True)
class Latency:
    """One row of a report: a file on a target with so many threads at one batch size.

    In `mode: quick`, `p90_ms` and `p99_ms` are those of the calls that were made. In `mode: full` the p90 and p99 of
    calls like these are at most those, at 99 % confidence, by MLPerf's early stopping; None where there were too few
    calls, and then `not_established` says why by the key.

    `p50_ci95_ms` is None of fewer rounds than an interval takes (`statistics.LEAST_ROUNDS`).

    `offline` holds for each batch size `batch`, `examples_per_second` and, where the machine counts energy,
    `millijoules` of one example by source, idle included (RAPL: processor packages; NVML: GPU; INA3221: board).
    `throughput_per_s` is the greatest of them (0: not measured), `energy_mj` what an example takes there.

    `peak_memory_bytes` is the most that was resident over what the process took before it loaded the file,
    `gpu_memory_bytes` what more of the GPU's memory was in use, as its driver says (None: no GPU). `shape` is that of
    each input by name; `rounds_ms` holds the sorted samples of each round, thinned to at most 200. `transfers_ms` are
    the copies `to_device` and `to_host`, where they are no part of the times above (TensorRT). `noise` is by
    how much one file measured twice beside this one differed from itself at p50 (A/A), as a fraction.
    """

    target: str
    runtime: str
    threads: int
    batch: int
    shape: dict[str, list[int]]
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    p50_ci95_ms: tuple[float, float] | None
    samples: int
    throughput_per_s: float
    peak_memory_bytes: int
    load_ms: float
    rounds_ms: list[list[float]] = field(repr=False)
    mode: str = "quick"
    not_established: dict[str, str] = field(default_factory=dict)
    offline: list[dict[str, Any]] = field(default_factory=list)
    energy_mj: dict[str, float] | None = None
    gpu_memory_bytes: int | None = None
    noise: float = 0.0
    transfers_ms: dict[str, float] | None = None

    def row(self) -> dict[str, Any]:
        """Plain data, for reports."""
        return {**asdict(self), "p50_ci95_ms": None if self.p50_ci95_ms is None else list(self.p50_ci95_ms)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Latency:
        """The inverse of `row`."""
        known = {item.name: row[item.name] for item in fields(cls)}
        ends = row["p50_ci95_ms"]
        return cls(**{**known, "p50_ci95_ms": None if ends is None else tuple(ends)})


def latency_rows(target: TargetSettings, results: Sequence[Mapping[str, Any]]) -> list[Latency]:
    """A file's rows, the smallest batch first, from its result in each round."""
    bulk = _offline(results)
    best = max(bulk, key=lambda entry: entry["examples_per_second"], default={})
    shared = {
        "throughput_per_s": best.get("examples_per_second", 0.0),
        "offline": bulk,
        "energy_mj": best.get("millijoules"),
        "load_ms": round(median(result["load_ms"] for result in results), DIGITS),
    }
    return [_row(target, results, index, shared) for index in range(len(results[0]["runs"]))]


def _row(
    target: TargetSettings, results: Sequence[Mapping[str, Any]], index: int, shared: Mapping[str, Any]
) -> Latency:
    runs = [result["runs"][index] for result in results]
    over_base = [run["peak_bytes"] - result["base_bytes"] for run, result in zip(runs, results, strict=True)]
    on_gpu = [
        run["gpu_bytes"] - result["gpu_base_bytes"]
        for run, result in zip(runs, results, strict=True)
        if "gpu_bytes" in run
    ]
    rounds: list[Samples] = [np.asarray(run["samples_ns"]) / 1e6 for run in runs]
    kept = [thin(samples, KEPT_PER_ROUND) for samples in rounds]
    tails = _tails(rounds, target.mode)
    return Latency(
        target=target.name,
        runtime=target.runtime,
        threads=target.threads,
        batch=runs[0]["batch"],
        shape=runs[0]["shapes"],
        mode=target.mode,
        p50_ms=percentile(rounds, 50),
        p90_ms=tails["p90_ms"],
        p99_ms=tails["p99_ms"],
        p50_ci95_ms=_interval(kept),
        samples=sum(map(len, rounds)),
        not_established=_reasons(tails, sum(map(len, rounds))),
        peak_memory_bytes=int(median(over_base)),
        gpu_memory_bytes=int(median(on_gpu)) if on_gpu else None,
        rounds_ms=[[round(float(value), DIGITS) for value in samples] for samples in kept],
        transfers_ms=_transfers(runs),
        **shared,
    )


def _interval(rounds: Sequence[Samples]) -> tuple[float, float] | None:
    """Of the p50; None of too few rounds."""
    if len(rounds) < LEAST_ROUNDS:
        return None
    low, high = p50_interval(rounds)
    return round(low, DIGITS), round(high, DIGITS)


def _transfers(runs: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Medians over the rounds of what the copies to and from a GPU took, in milliseconds."""
    if "transfers" not in runs[0]:
        return None
    ways = ("to_device", "to_host")
    return {way: round(median(run["transfers"][f"{way}_ms"] for run in runs), DIGITS) for way in ways}


def _tails(rounds: Sequence[Samples], mode: str) -> dict[str, float | None]:
    """p90 and p99: of the calls made, each round weighing the same, or at MLPerf's confidence."""
    if mode == "quick":
        return {key: percentile(rounds, q) for key, q in TAILS.items()}
    return {key: upper_percentile(np.concatenate(rounds), q) for key, q in TAILS.items()}


def _reasons(tails: Mapping[str, float | None], calls: int) -> dict[str, str]:
    return {
        key: f"{calls} calls are too few: at {CONFIDENCE:.0%} confidence it takes {smallest_sample(TAILS[key])}"
        for key, value in tails.items()
        if value is None
    }


def _offline(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Medians over the rounds that measured throughput, for each batch size."""
    by_batch: dict[int, list[Mapping[str, Any]]] = {}
    for result in results:
        for entry in result.get("throughput") or ():
            by_batch.setdefault(entry["batch"], []).append(entry)
    found = []
    for batch, entries in sorted(by_batch.items()):
        speed = round(median(entry["examples_per_second"] for entry in entries), 3)
        row: dict[str, Any] = {"batch": batch, "examples_per_second": speed}
        if sources := entries[0].get("joules_per_example"):
            joules = {name: median(entry["joules_per_example"][name] for entry in entries) for name in sources}
            row["millijoules"] = {name: round(1000 * value, 6) for name, value in joules.items()}
        found.append(row)
    return found
