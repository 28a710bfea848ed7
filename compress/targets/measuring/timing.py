"""Latency and throughput: raw samples."""

from __future__ import annotations

import array
import gc
import time
from typing import Any

from compress.targets.measuring.axes import fixed_batch, input_shapes
from compress.targets.measuring.energy import energy_meters
from compress.targets.measuring.errors import running
from compress.targets.measuring.inputs import feeds_for
from compress.targets.measuring.memory import peak_memory_bytes
from compress.targets.measuring.nvidia import Nvml

WARMUP_CALLS = 20
"""Wanted in the warm-up."""
PATIENCE = 10
"""So many times the asked-for seconds may the warm-up of a slow model last."""
ENERGY_SECONDS = 1.0
"""Least time over which energy is counted: the driver of a GPU counts it ten times a second."""


def latency(session: Any, request: dict[str, Any], nvml: Nvml | None = None) -> dict[str, Any]:
    """Raw samples in nanoseconds for each batch size, peak memory after each, then throughput at others.

    What a call takes is timed as MLPerf's SingleStream does: the next one starts when the last has ended.
    """
    inputs, axes = input_shapes(session), request.get("axes", {})
    bound = fixed_batch(inputs, axes)
    runs = []
    for batch in sorted(set(request["batches"])) if bound is None else [bound]:
        feeds = feeds_for(session, batch, axes)
        with running(feeds):
            warm_up(session, feeds, request["warmup_seconds"])
            samples = timed(session, feeds, request["seconds"], request["minimum_calls"])
        shapes = {name: list(value.shape) for name, value in feeds.items()}
        run = {"batch": batch, "shapes": shapes, "samples_ns": samples, "peak_bytes": peak_memory_bytes()}
        runs.append(run if nvml is None else {**run, "gpu_bytes": nvml.used_bytes()})
    found: dict[str, Any] = {"runs": runs}
    if request.get("throughput_batches"):
        batches = sorted(set(request["throughput_batches"])) if bound is None else [bound]
        found["throughput"] = [
            offline(session, feeds_for(session, batch, axes), batch, request["throughput_seconds"], energy_meters(nvml))
            for batch in batches
        ]
    return found


def offline(session: Any, feeds: dict[str, Any], batch: int, seconds: float, meters: list[Any]) -> dict[str, Any]:
    """Throughput as MLPerf's Offline has it, all examples being there: examples per second of calls of `batch`.

    With the joules of one example by each of `meters`, if there are any: of at least a second then.
    """
    with running(feeds):
        warm_up(session, feeds, 0.0)
        for meter in meters:
            meter.start()
        samples = timed(session, feeds, max(seconds, ENERGY_SECONDS) if meters and seconds else seconds, 2)
        joules = {meter.name: meter.stop() for meter in meters}
    examples = batch * len(samples)
    found: dict[str, Any] = {"batch": batch, "examples_per_second": examples / (sum(samples) / 1e9)}
    return {**found, "joules_per_example": {k: v / examples for k, v in joules.items()}} if joules else found


def warm_up(session: Any, feeds: dict[str, Any], seconds: float) -> None:
    """Unmeasured calls: at least one, for at least `seconds` and 20 calls unless those would take ten times as long."""
    start, calls = time.perf_counter(), 0
    while True:
        session.run(None, feeds)
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds and (calls >= WARMUP_CALLS or elapsed >= PATIENCE * seconds):
            return


def timed(session: Any, feeds: dict[str, Any], seconds: float, minimum_calls: int) -> Any:
    """The nanoseconds of each call, for at least `seconds` and `minimum_calls`."""
    clock, run = time.perf_counter_ns, session.run
    samples = array.array("q")  # 8 bytes a call: what a list takes would count as the model's memory
    names = [item.name for item in session.get_outputs()]
    collecting = gc.isenabled()
    gc.disable()
    end = clock() + int(seconds * 1e9)
    while True:
        start = clock()
        run(names, feeds)
        stop = clock()
        samples.append(stop - start)
        if stop >= end and len(samples) >= minimum_calls:
            break
    if collecting:
        gc.enable()
    return samples
