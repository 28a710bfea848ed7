"""The measuring program for TensorRT: builds engines, and gives their answers, raw latency and memory, on the GPU.

    python measure_tensorrt.pyz REQUEST.json RESULT.json

It is sent as one archive of this file and those that it imports (`compress.targets.programs`), and needs Python >=
3.10, NumPy and tensorrt 11. Requests and results have the form of `compress.targets.measure`: a job may also `build` an
engine (`compress.targets.tensorrt_build`), and `describe` tells what is there without a job. `target` is what the
target is called in messages.

Latency is that of the GPU, between two CUDA events around the launch of a CUDA graph of one run, with the inputs and
outputs on the GPU, as trtexec measures; copies are timed apart (`transfers`). Memory is the GPU's, as the driver tells
it; a Jetson's is the machine's.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat

from compress.targets import measure
from compress.targets.cuda_driver import OUT_OF_MEMORY, Cuda, CudaError
from compress.targets.tensorrt_build import belongs_to, build, import_tensorrt, open_gpu
from compress.targets.tensorrt_session import EngineSession

if TYPE_CHECKING:
    import tensorrt as trt

TRANSFERS = 20
"""Copies there and back that are timed; the median counts."""


def latency(session: EngineSession, request: dict[str, Any], nvml: measure.Nvml | None) -> dict[str, Any]:
    """As `measure.latency`: nanoseconds on the GPU of each run for each batch size, then throughput at others."""
    inputs, axes = measure.input_shapes(session), request.get("axes", {})
    bound = measure.fixed_batch(inputs, axes)
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
        memory = {"peak_bytes": measure.peak_memory_bytes(), "gpu_bytes": session.cuda.used_bytes()}
        runs.append({"batch": batch, "shapes": shapes, "samples_ns": samples, **memory, "transfers": copies})
    found: dict[str, Any] = {"runs": runs, "notes": notes}
    if request.get("throughput_batches"):
        batches = sorted(set(request["throughput_batches"])) if bound is None else [bound]
        found["throughput"] = [
            offline(session, batch, axes, request["throughput_seconds"], measure.energy_meters(nvml))
            for batch in batches
        ]
    return found


def offline(
    session: EngineSession, batch: int, axes: dict[str, int], seconds: float, meters: list[Any]
) -> dict[str, Any]:
    """As `measure.offline`: examples per second of runs of `batch`, and the joules of one by each of `meters`."""
    with prepared(session, batch, axes) as (once, _, _):
        _warm_up(session.cuda, once, 0.0)
        for meter in meters:
            meter.start()
        samples = gpu_times(
            session.cuda, once, max(seconds, measure.ENERGY_SECONDS) if meters and seconds else seconds, 2
        )
        joules = {meter.name: meter.stop() for meter in meters}
    examples = batch * len(samples)
    found: dict[str, Any] = {"batch": batch, "examples_per_second": examples / (sum(samples) / 1e9)}
    return {**found, "joules_per_example": {k: v / examples for k, v in joules.items()}} if joules else found


@contextlib.contextmanager
def prepared(
    session: EngineSession, batch: int, axes: dict[str, int]
) -> Iterator[tuple[Callable[[], None], dict[str, list[int]], str]]:
    """(what begins one run, the shapes of its inputs, a note) with made-up inputs on the GPU."""
    feeds = measure.feeds_for(session, batch, axes)
    shapes = {name: list(values.shape) for name, values in feeds.items()}
    with measure.running(feeds):
        session.run(None, feeds)  # TensorRT sets itself up in the first run, which no graph may hold
        graph, note = session.capture()
        try:
            yield session.execute if graph is None else functools.partial(session.cuda.launch, graph), shapes, note
        finally:
            if graph is not None:
                session.cuda.release_graph(graph)


def _warm_up(cuda: Cuda, once: Callable[[], None], seconds: float) -> None:
    """Unmeasured runs, for at least `seconds` and as many as `measure.warm_up` wants."""
    start, calls = time.perf_counter(), 0
    while True:
        once()
        cuda.synchronize()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds and (calls >= measure.WARMUP_CALLS or elapsed >= measure.PATIENCE * seconds):
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


def operators(session: EngineSession, request: dict[str, Any]) -> dict[str, Any]:
    """As `measure.operators`: the mean microseconds of each layer of the engine, as TensorRT's profiler tells them."""
    import tensorrt

    class Noted(tensorrt.IProfiler):
        def __init__(self) -> None:
            tensorrt.IProfiler.__init__(self)
            self.milliseconds: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name: str, ms: SupportsFloat) -> None:
            self.milliseconds.setdefault(layer_name, []).append(float(ms))

    feeds = measure.feeds_for(session, request["batch"], request.get("axes", {}))
    noted, calls = Noted(), 0
    with measure.running(feeds):
        session.run(None, feeds)
        session.context.profiler = noted
        end = time.perf_counter() + request["seconds"]
        while time.perf_counter() < end or calls < request["minimum_calls"]:
            session.execute()
            session.cuda.synchronize()
            calls += 1
    kinds = layer_kinds(session.engine)
    found = []
    for name, times in noted.milliseconds.items():
        kept = sorted(times)[len(times) // 10 : len(times) // 2 + 1]
        found.append({"name": name, "operator": kinds.get(name, ""), "microseconds": 1000 * sum(kept) / len(kept)})
    return {"operators": found, "calls": calls}


def layer_kinds(engine: trt.ICudaEngine) -> dict[str, str]:
    """The kind of each layer by its name, where the engine was built with details."""
    import tensorrt

    text = engine.create_engine_inspector().get_engine_information(tensorrt.LayerInformationFormat.JSON)
    layers = json.loads(text).get("Layers", []) if text else []
    return {layer["Name"]: layer.get("LayerType", "") for layer in layers if isinstance(layer, dict)}


def do(job: dict[str, Any], cuda: Cuda, target: str) -> dict[str, Any]:
    """One job: build an engine, or load one and do what is asked with it. Memory counts from before it is loaded."""
    try:
        if "build" in job:
            return build(job["model"], job["build"], cuda, target)
        nvml = measure.open_nvml("CUDAExecutionProvider")
        measure.forget_peak_memory()
        base = {"base_bytes": measure.peak_memory_bytes(), "gpu_base_bytes": cuda.used_bytes()}
        start = time.perf_counter_ns()
        session = EngineSession(job["model"], cuda, target)
        if "operators" in job:
            return operators(session, job["operators"])
        load_ms = (time.perf_counter_ns() - start) / 1e6
        result: dict[str, Any] = {"load_ms": load_ms, **base}
        if "latency" in job:
            result.update(latency(session, job["latency"], nvml))
        if "answers" in job:
            result.update(measure.answers(session, job["answers"]))
        result["activation_bytes"] = session.engine.device_memory_size_v2
        return result
    except (measure.RequestError, CudaError) as error:
        return {"error": {"kind": _kind(error), "message": str(error)}}
    except MemoryError:
        return {"error": {"kind": "run", "message": "there is not enough memory"}}


def _kind(error: BaseException) -> str:
    """What kind of failure it is; what `measure.running` tells of may come from the GPU's memory."""
    cause = error.__cause__ if isinstance(error, measure.RequestError) else error
    if isinstance(cause, CudaError) and cause.code == OUT_OF_MEMORY:
        return "memory"
    return error.kind if isinstance(error, measure.RequestError) else "run"


def describe(target: str) -> dict[str, Any]:
    """What an engine built here would belong to, and the GPU's memory; or under `error` what is missing."""
    try:
        import_tensorrt(target)
        cuda = open_gpu(target)
        return {**belongs_to(cuda), "memory_bytes": cuda.describe()["memory_bytes"], "used_bytes": cuda.used_bytes()}
    except measure.RequestError as error:
        return {"error": {"kind": error.kind, "message": str(error)}}


def _jobs(request: dict[str, Any], target: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The result of each job, and the versions of what they depend on. What is missing is every job's error."""
    try:
        import_tensorrt(target)
        cuda = open_gpu(target)
        here = belongs_to(cuda)
        return [do(job, cuda, target) for job in request["jobs"]], here
    except measure.RequestError as error:
        return [{"error": {"kind": error.kind, "message": str(error)}} for _ in request["jobs"]], {}


def main(request_path: str, result_path: str) -> int:
    """Read the request, pin this process, do the jobs, write the result."""
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    if request.get("stop_with_stdin"):
        measure.stop_with_stdin()
    if request.get("cores") and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    target = request.get("target", "this machine")
    if request.get("describe"):
        Path(result_path).write_text(json.dumps(describe(target)), encoding="utf-8")
        return 0
    import numpy

    cores = request.get("cores") or measure.available_cores()
    before = measure.conditions(cores)
    jobs, here = _jobs(request, target)
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "tensorrt": here.get("tensorrt")}
    machine = {**measure.machine(), **{key: here[key] for key in here if key != "tensorrt"}}
    state = {"conditions": measure.conditions(cores), "conditions_before": before}
    result = {"machine": machine, **state, "versions": versions, "jobs": jobs}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python measure_tensorrt.pyz REQUEST.json RESULT.json")
    sys.exit(main(sys.argv[1], sys.argv[2]))
