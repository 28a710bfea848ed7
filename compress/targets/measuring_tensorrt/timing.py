"""Latency and throughput of an engine: raw samples of the GPU's own clock.

Latency is that of the GPU, between two CUDA events around the launch of a CUDA graph of one run, with the inputs and
outputs on the GPU, as trtexec measures; copies are timed apart (`transfers`). Memory is the GPU's, as the driver tells
it; a Jetson's is the machine's.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

from compress.targets.measuring.axes import fixed_batch, input_shapes
from compress.targets.measuring.energy import energy_meters
from compress.targets.measuring.errors import running
from compress.targets.measuring.inputs import feeds_for
from compress.targets.measuring.memory import peak_memory_bytes
from compress.targets.measuring.nvidia import Nvml
from compress.targets.measuring.timing import ENERGY_SECONDS, PATIENCE, WARMUP_CALLS
from compress.targets.measuring_tensorrt.cuda_driver import Cuda
from compress.targets.measuring_tensorrt.session import EngineSession

TRANSFERS = 20
"""Copies there and back that are timed; the median counts."""


def latency(session: EngineSession, request: dict[str, Any], nvml: Nvml | None) -> dict[str, Any]:
    """As `measuring`'s `latency`: nanoseconds on the GPU of each run for each batch size, then throughput at others."""
    inputs, axes = input_shapes(session), request.get("axes", {})
    bound = fixed_batch(inputs, axes)
    runs: list[dict[str, Any]] = []
    notes: list[str] = []
    for batch in sorted(set(request["batches"])) if bound is None else [bound]:
        with prepared(session, batch, axes) as (once, shapes, note):
            _warm_up(session.cuda, once, request["warmup_seconds"])
            samples = gpu_times(session.cuda, once, request["seconds"], request["minimum_calls"])
            copies = {
                "to_device_ms": _median(_copies(session.cuda, session.upload)),
                "to_host_ms": _median(_copies(session.cuda, session.download)),
            }
        notes += [note] if note and note not in notes else []
        memory = {"peak_bytes": peak_memory_bytes(), "gpu_bytes": session.cuda.used_bytes()}
        runs.append({"batch": batch, "shapes": shapes, "samples_ns": samples, **memory, "transfers": copies})
    found: dict[str, Any] = {"runs": runs, "notes": notes}
    if request.get("throughput_batches"):
        batches = sorted(set(request["throughput_batches"])) if bound is None else [bound]
        found["throughput"] = [
            offline(session, batch, axes, request["throughput_seconds"], energy_meters(nvml)) for batch in batches
        ]
    return found


def offline(
    session: EngineSession, batch: int, axes: dict[str, int], seconds: float, meters: list[Any]
) -> dict[str, Any]:
    """As `measuring`'s `offline`: examples per second of runs of `batch`, and the joules of one by each of `meters`."""
    with prepared(session, batch, axes) as (once, _, _):
        _warm_up(session.cuda, once, 0.0)
        for meter in meters:
            meter.start()
        samples = gpu_times(session.cuda, once, max(seconds, ENERGY_SECONDS) if meters and seconds else seconds, 2)
        joules = {meter.name: meter.stop() for meter in meters}
    examples = batch * len(samples)
    found: dict[str, Any] = {"batch": batch, "examples_per_second": examples / (sum(samples) / 1e9)}
    return {**found, "joules_per_example": {k: v / examples for k, v in joules.items()}} if joules else found


@contextlib.contextmanager
def prepared(
    session: EngineSession, batch: int, axes: dict[str, int]
) -> Iterator[tuple[Callable[[], None], dict[str, list[int]], str]]:
    """(what begins one run, the shapes of its inputs, a note) with made-up inputs on the GPU."""
    feeds = feeds_for(session, batch, axes)
    shapes = {name: list(values.shape) for name, values in feeds.items()}
    with running(feeds):
        session.run(None, feeds)  # TensorRT sets itself up in the first run, which no graph may hold
        graph, note = session.capture()
        try:
            yield session.execute if graph is None else functools.partial(session.cuda.launch, graph), shapes, note
        finally:
            if graph is not None:
                session.cuda.release_graph(graph)


def _warm_up(cuda: Cuda, once: Callable[[], None], seconds: float) -> None:
    """Unmeasured runs, for at least `seconds` and as many as `measuring`'s `warm_up` wants."""
    start, calls = time.perf_counter(), 0
    while True:
        once()
        cuda.synchronize()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds and (calls >= WARMUP_CALLS or elapsed >= PATIENCE * seconds):
            return


def gpu_times(cuda: Cuda, once: Callable[[], None], seconds: float, minimum_calls: int) -> list[int]:
    """The nanoseconds on the GPU of each run, one after the other, for at least `seconds` and `minimum_calls`."""
    samples: list[int] = []
    collecting = gc.isenabled()
    gc.disable()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples) < minimum_calls:
        with cuda.timed() as milliseconds:
            once()
        samples.append(round(milliseconds[0] * 1e6))
    if collecting:
        gc.enable()
    return samples


def _copies(cuda: Cuda, copy: Callable[[], None]) -> list[float]:
    """The milliseconds of several copies."""
    found: list[float] = []
    for _ in range(TRANSFERS):
        with cuda.timed() as milliseconds:
            copy()
        found += milliseconds
    return found


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
