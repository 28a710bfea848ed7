"""What the program does: reads the request, does its jobs, writes the result."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

from compress.targets.measuring.answers import answers
from compress.targets.measuring.conditions import conditions
from compress.targets.measuring.errors import RequestError
from compress.targets.measuring.machine import available_cores, machine
from compress.targets.measuring.memory import forget_peak_memory, peak_memory_bytes
from compress.targets.measuring.nvidia import gpu_of, open_nvml
from compress.targets.measuring.operators import operators
from compress.targets.measuring.session import open_session
from compress.targets.measuring.timing import latency


def do(job: dict[str, Any], provider: str, threads: int) -> dict[str, Any]:
    """One job: load the model, then what it asks for. Memory counts from before the session is made."""
    try:
        if "operators" in job:
            return operators(job["model"], provider, threads, job["operators"])
        nvml = open_nvml(provider)
        gpu_base = {} if nvml is None else {"gpu_base_bytes": nvml.used_bytes()}
        forget_peak_memory()
        base = peak_memory_bytes()
        start = time.perf_counter_ns()
        session = open_session(job["model"], provider, threads)
        result: dict[str, Any] = {"load_ms": (time.perf_counter_ns() - start) / 1e6, "base_bytes": base, **gpu_base}
        if "latency" in job:
            result.update(latency(session, job["latency"], nvml))
        if "answers" in job:
            result.update(answers(session, job["answers"]))
        return result
    except RequestError as error:
        return {"error": {"kind": error.kind, "message": str(error)}}
    except MemoryError:
        return {"error": {"kind": "run", "message": "there is not enough memory"}}


def stop_with_stdin() -> None:
    """End this process when whoever started it goes away, which closes our standard input."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()


def main(request_path: str, result_path: str) -> int:
    """Read the request, pin this process, do the jobs, write the result."""
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    if request.get("stop_with_stdin"):
        stop_with_stdin()
    if request.get("cores") and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])  # before NumPy and ONNX Runtime count cores
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import numpy
    import onnxruntime

    numpy.random.default_rng(0).standard_normal(1)  # so that it is loaded before memory is counted
    cores = request.get("cores") or available_cores()
    before = conditions(cores)
    jobs = [do(job, request["provider"], request["threads"]) for job in request["jobs"]]
    found = {
        "machine": {**machine(), **gpu_of(request["provider"])},
        "conditions": conditions(cores),
        "conditions_before": before,
    }
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "onnxruntime": onnxruntime.__version__}
    result = json.dumps({**found, "versions": versions, "jobs": jobs}, default=list)  # samples are arrays
    Path(result_path).write_text(result, encoding="utf-8")
    return 0
