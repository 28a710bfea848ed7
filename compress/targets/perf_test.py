"""`onnxruntime_perf_test` on an Android device, in place of Python: it times files there, and gives no answers.

Its result file has a line for each call: model, seconds, peak of the working set in bytes, CPU, number (`DumpToFile` in
onnxruntime/test/perftest of ONNX Runtime). Inputs are its own random ones (`-I`).
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from compress.errors import StageError, UsageError
from compress.targets import adb, failures
from compress.targets.adb import FOLDER
from compress.targets.facts import Facts
from compress.targets.measuring.axes import concrete_shapes, fixed_batch
from compress.targets.measuring.errors import RequestError
from compress.targets.measuring.machine import FEATURES
from compress.targets.model_files import model_files
from compress.targets.settings import TargetSettings

PROBE_CALLS = 5
"""Calls from which it is told how many fill the asked-for time."""
MOST_CALLS = 100_000
SECONDS = 600


def facts(target: TargetSettings) -> Facts:
    """What the device's shell tells: processor, cores, and which binary it is."""
    told = shell(target, f"uname -m; cat /proc/cpuinfo; echo; sha256sum {target.perf_test}", allowed=(0, 1))
    digest = re.search(r"^([0-9a-f]{64})\s", told, re.MULTILINE)
    if digest is None:
        raise UsageError(
            f"target '{target.name}': there is no {target.perf_test} on the device; build onnxruntime_perf_test for "
            f"Android and put it there: adb -s {target.serial} push onnxruntime_perf_test {FOLDER}"
        )
    flags = re.search(r"^(?:Features|flags)\s*:(.*)$", told, re.MULTILINE)
    cores = re.findall(r"^processor\s*:\s*(\d+)", told, re.MULTILINE)
    model = re.search(r"^(?:Hardware|model name)\s*:\s*(.+)$", told, re.MULTILINE)
    names = flags.group(1).split() if flags else []
    machine = {
        "architecture": told.split("\n", 1)[0].strip(),
        "cpu": model.group(1).strip() if model else "",
        "features": sorted({FEATURES[name] for name in names if name in FEATURES}),
        "cores": len(cores) or 1,
        "system": "Android",
    }
    versions = {"onnxruntime": f"onnxruntime_perf_test {digest.group(1)[:12]}"}
    return Facts(machine, versions, tuple(map(int, cores)), emulated=target.emulated)


def run_jobs(
    target: TargetSettings, jobs: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Time files; what only Python can tell (answers, times of operators) is refused.

    Memory is the peak of the whole process, since the binary does not tell what it took before it loaded the file.

    Raises:
        UsageError: A job asks for more than times, or the device refuses us.
        StageError: A model cannot be loaded or fails when it is run.
        UnreachableError: The device is away.
    """
    folder = f"{FOLDER}/compress-{secrets.token_hex(8)}"
    shell(target, f"mkdir -p {folder}")
    try:
        done = {name: _job(target, folder, name, job) for name, job in jobs.items()}
    finally:
        shell(target, f"rm -rf {folder}")
    told = facts(target)
    return done, {"machine": dict(told.machine), "versions": dict(told.versions), "conditions": {}}


def _job(target: TargetSettings, folder: str, name: str, job: Mapping[str, Any]) -> dict[str, Any]:
    if set(job) != {"model", "latency"}:
        raise UsageError(
            f"target '{target.name}': onnxruntime_perf_test gives times alone, and no answers or times of operators"
        )
    model, asked = Path(job["model"]), job["latency"]
    place = f"{folder}/{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    shell(target, f"mkdir -p {place}")
    for path in model_files(model):
        _adb(target, "push", str(path), f"{place}/{path.name}")
    there = f"{place}/{model.name}"
    inputs = _inputs(model)
    bound = fixed_batch(inputs, asked["axes"])
    found: dict[str, Any] = {"base_bytes": 0, "runs": [], "load_ms": 0.0}
    for batch in sorted(set(asked["batches"])) if bound is None else [bound]:
        run = _timed(target, there, inputs, batch, asked, asked["seconds"])
        found["load_ms"] = run.pop("load_ms")
        found["runs"].append({"batch": batch, "shapes": _shapes(inputs, batch, asked), **run})
    bulk = asked.get("throughput_batches")
    if bulk:
        found["throughput"] = []
        for batch in sorted(set(bulk)) if bound is None else [bound]:
            run = _timed(target, there, inputs, batch, asked, asked["throughput_seconds"])
            seconds = sum(run["samples_ns"]) / 1e9
            speed = batch * len(run["samples_ns"]) / seconds
            found["throughput"].append({"batch": batch, "examples_per_second": speed})
    return found


def _shapes(inputs: dict[str, list[Any]], batch: int, asked: Mapping[str, Any]) -> dict[str, list[int]]:
    try:
        return concrete_shapes(inputs, batch, dict(asked["axes"]))
    except RequestError as error:
        raise UsageError(str(error)) from error


def _timed(
    target: TargetSettings,
    model: str,
    inputs: dict[str, list[Any]],
    batch: int,
    asked: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """One process that makes enough calls; those of its warm-up are dropped."""
    shapes = _shapes(inputs, batch, asked)
    axes = {
        size: shapes[name][position]
        for name, shape in inputs.items()
        for position, size in enumerate(shape)
        if isinstance(size, str)
    }
    probe = parsed(*_run(target, model, axes, PROBE_CALLS))
    each = mean(probe["samples_ns"]) / 1e9
    warmup = math.ceil(asked["warmup_seconds"] / each)
    calls = min(MOST_CALLS, warmup + max(asked["minimum_calls"], math.ceil(seconds / each)))
    run = parsed(*_run(target, model, axes, calls))
    run["samples_ns"] = run["samples_ns"][min(warmup, calls - 1) :]
    return run


def _run(target: TargetSettings, model: str, axes: Mapping[str, int], calls: int) -> tuple[str, str]:
    """(what it printed, its result file)."""
    sizes = " ".join(f"-f {name}:{size}" for name, size in axes.items())
    options = f"-I -m times -r {calls} -e cpu -x {target.threads} -y 1 -D {sizes}"
    result = f"{model}.result"
    said = shell(target, f"rm -f {result}; {target.perf_test} {options} {model} {result} 2>&1")
    return said, shell(target, f"cat {result} 2>/dev/null; true")


def parsed(said: str, result: str) -> dict[str, Any]:
    """Samples in nanoseconds, peak of the working set in bytes, and load time in ms, from what the binary wrote.

    Raises:
        StageError: it timed nothing.
    """
    rows = [line.rsplit(",", 4) for line in result.splitlines() if line.count(",") >= 4]
    if not rows:
        lines = [line for line in said.strip().splitlines() if line.strip()] or ["it said nothing"]
        raise StageError(f"onnxruntime_perf_test timed nothing: {lines[-1].strip()}")
    created = re.search(r"Session creation time cost:\s*([\d.eE+-]+)\s*s", said)
    return {
        "samples_ns": [round(float(row[1]) * 1e9) for row in rows],
        "peak_bytes": int(rows[-1][2]),
        "load_ms": float(created.group(1)) * 1e3 if created else 0.0,
    }


def _inputs(model: Path) -> dict[str, list[Any]]:
    """Each input's shape as the file says it."""
    import onnx

    graph = onnx.load(str(model), load_external_data=False).graph
    weights = {item.name for item in graph.initializer}
    return {
        item.name: [
            axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None
            for axis in item.type.tensor_type.shape.dim
        ]
        for item in graph.input
        if item.name not in weights
    }


def shell(target: TargetSettings, line: str, allowed: Sequence[int] = (0,)) -> str:
    """What a line prints in the device's shell."""
    return _adb(target, "shell", line, allowed=allowed)


def _adb(target: TargetSettings, *arguments: str, allowed: Sequence[int] = (0,)) -> str:
    command = [adb.program(target), "-s", target.serial or "", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise failures.UnreachableError(f"target '{target.name}': it does not answer", target.name) from None
    if done.returncode in allowed:
        return done.stdout
    said = done.stderr + done.stdout
    if re.search(r"No space left", said):
        raise failures.no_space(target.name, "adb push", FOLDER)
    if re.search(r"^(adb|error): |device .* not found|unauthorized|offline|no devices", said, re.MULTILINE):
        raise adb.refused(target, said)
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    raise StageError(f"target '{target.name}': `{arguments[-1]}` failed: {last[0]}")
