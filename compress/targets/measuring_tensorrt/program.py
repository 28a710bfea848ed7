"""What the program does: reads the request, builds engines and measures them, writes the result."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from compress.targets.measuring.answers import answers
from compress.targets.measuring.conditions import conditions
from compress.targets.measuring.errors import RequestError
from compress.targets.measuring.machine import available_cores, machine
from compress.targets.measuring.memory import forget_peak_memory, peak_memory_bytes
from compress.targets.measuring.nvidia import open_nvml
from compress.targets.measuring.program import stop_with_stdin
from compress.targets.measuring_tensorrt.build import build
from compress.targets.measuring_tensorrt.cuda_driver import OUT_OF_MEMORY, Cuda, CudaError
from compress.targets.measuring_tensorrt.operators import operators
from compress.targets.measuring_tensorrt.place import belongs_to, import_tensorrt, open_gpu
from compress.targets.measuring_tensorrt.session import EngineSession
from compress.targets.measuring_tensorrt.timing import latency


def do(job: dict[str, Any], cuda: Cuda, target: str) -> dict[str, Any]:
    """One job: build an engine, or load one and do what is asked with it. Memory counts from before it is loaded."""
    try:
        if "build" in job:
            return build(job["model"], job["build"], cuda, target)
        nvml = open_nvml("CUDAExecutionProvider")
        forget_peak_memory()
        base = {"base_bytes": peak_memory_bytes(), "gpu_base_bytes": cuda.used_bytes()}
        start = time.perf_counter_ns()
        session = EngineSession(job["model"], cuda, target)
        if "operators" in job:
            return operators(session, job["operators"])
        load_ms = (time.perf_counter_ns() - start) / 1e6
        result: dict[str, Any] = {"load_ms": load_ms, **base}
        if "latency" in job:
            result.update(latency(session, job["latency"], nvml))
        if "answers" in job:
            result.update(answers(session, job["answers"]))
        result["activation_bytes"] = session.engine.device_memory_size_v2
        return result
    except (RequestError, CudaError) as error:
        return {"error": {"kind": _kind(error), "message": str(error)}}
    except MemoryError:
        return {"error": {"kind": "run", "message": "there is not enough memory"}}


def _kind(error: BaseException) -> str:
    """What kind of failure it is; what `measuring`'s `running` tells of may come from the GPU's memory."""
    cause = error.__cause__ if isinstance(error, RequestError) else error
    if isinstance(cause, CudaError) and cause.code == OUT_OF_MEMORY:
        return "memory"
    return error.kind if isinstance(error, RequestError) else "run"


def describe(target: str) -> dict[str, Any]:
    """What an engine built here would belong to, and the GPU's memory; or under `error` what is missing."""
    try:
        import_tensorrt(target)
        cuda = open_gpu(target)
        return {**belongs_to(cuda), "memory_bytes": cuda.describe()["memory_bytes"], "used_bytes": cuda.used_bytes()}
    except RequestError as error:
        return {"error": {"kind": error.kind, "message": str(error)}}


def _jobs(request: dict[str, Any], target: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The result of each job, and the versions of what they depend on. What is missing is every job's error."""
    try:
        import_tensorrt(target)
        cuda = open_gpu(target)
        here = belongs_to(cuda)
        return [do(job, cuda, target) for job in request["jobs"]], here
    except RequestError as error:
        return [{"error": {"kind": error.kind, "message": str(error)}} for _ in request["jobs"]], {}


def main(request_path: str, result_path: str) -> int:
    """Read the request, pin this process, do the jobs, write the result."""
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    if request.get("stop_with_stdin"):
        stop_with_stdin()
    if request.get("cores") and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    target = request.get("target", "this machine")
    if request.get("describe"):
        Path(result_path).write_text(json.dumps(describe(target)), encoding="utf-8")
        return 0
    import numpy

    cores = request.get("cores") or available_cores()
    before = conditions(cores)
    jobs, here = _jobs(request, target)
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "tensorrt": here.get("tensorrt")}
    gpu = {key: here[key] for key in here if key != "tensorrt"}
    state = {"conditions": conditions(cores), "conditions_before": before}
    told: dict[str, Any] = {"machine": {**machine(), **gpu}, **state, "versions": versions}
    Path(result_path).write_text(json.dumps({**told, "jobs": jobs}), encoding="utf-8")
    return 0
