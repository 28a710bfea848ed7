"""The one measuring program: gives a model's answers and its raw latency, load time and peak memory, where it runs.

    python measure.py REQUEST.json RESULT.json

The same file runs here in a fresh process and is copied to devices, so it needs Python >= 3.9, NumPy and ONNX Runtime
and nothing else, and imports those only when it runs. The request is `{"threads", "cores", "provider",
"stop_with_stdin", "jobs": [{"model", "latency": {...}, "answers": {...}}, {"model", "operators": {...}}]}`; the result
`{"machine", "conditions", "versions", "jobs": [...]}` holds for each job what was measured, or
`{"error": {"kind", "message"}}`.

ONNX Runtime 1.29 and later report to Microsoft unless ORT_DISABLE_TELEMETRY is set before the import: an uploading
thread, a data base in the home folder, a file in the temporary one. Here it is set, unless the user has set it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FEATURES = {
    "avx": "avx", "avx2": "avx2", "fma": "fma", "avx512f": "avx512f", "avx512bw": "avx512bw",
    "avx512_vnni": "avx512_vnni", "avx_vnni": "avx_vnni", "avx_vnni_int8": "avx_vnni_int8",
    "avx512_bf16": "avx512_bf16", "amx_int8": "amx_int8", "amx_bf16": "amx_bf16",
    "asimd": "neon", "asimddp": "dotprod", "i8mm": "i8mm", "sve": "sve", "sve2": "sve2", "asimdhp": "fp16",
    "bf16": "bf16",
}  # fmt: skip
"""Linux's name in /proc/cpuinfo -> ours, for what decides how fast int8 and float arithmetic are."""
APPLE_FEATURES = {
    "AdvSIMD": "neon",
    "FEAT_DotProd": "dotprod",
    "FEAT_I8MM": "i8mm",
    "FEAT_FP16": "fp16",
    "FEAT_BF16": "bf16",
}
BATCH_NAMES = frozenset({"batch", "batch_size", "batchsize", "n", "b"})
DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(bool)": "bool",
    "tensor(int8)": "int8", "tensor(int16)": "int16", "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16", "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}  # fmt: skip
KERNEL = "_kernel_time"  # what the runtime's notes call the time of an operator
IGNORED = -100  # the target of a token that does not count
WARMUP_CALLS, PATIENCE = (
    20,
    10,
)  # calls wanted in the warm-up; a slow model's may last PATIENCE times the asked-for seconds


class RequestError(Exception):
    """What was asked cannot be done; `kind` is `model`, `axes`, `provider` or `run`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# What this machine is


def machine() -> dict[str, Any]:
    """The processor: architecture, model, the features that matter for int8 arithmetic, cores, operating system."""
    model, features = _processor()
    return {
        "architecture": platform.machine(),
        "cpu": model,
        "features": sorted(features),
        "cores": os.cpu_count() or 1,
        "system": platform.system(),
    }


def _processor() -> tuple[str, set[str]]:
    """(model name, features) as the operating system tells them; both empty where it does not."""
    if sys.platform == "darwin":
        names = {ours for theirs, ours in APPLE_FEATURES.items() if _sysctl("hw.optional.arm." + theirs) == "1"}
        intel = _sysctl("machdep.cpu.features machdep.cpu.leaf7_features").lower().split()
        names |= {FEATURES[flag] for flag in intel if flag in FEATURES}
        return _sysctl("machdep.cpu.brand_string"), names
    text = _read("/proc/cpuinfo")
    values = {
        key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    flags = (values.get("flags") or values.get("features") or "").split()
    part = f"implementer {values.get('cpu implementer')} part {values['cpu part']}" if "cpu part" in values else ""
    board = _read("/proc/device-tree/model").strip("\0\n ")
    model = values.get("model name") or ", ".join(filter(None, (board, part))) or platform.processor()
    return model, {FEATURES[flag] for flag in flags if flag in FEATURES}


def conditions() -> dict[str, Any]:
    """What may disturb a measurement: load over a minute, the frequency governor, temperature in degrees Celsius."""
    governor = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    millidegrees = _read("/sys/class/thermal/thermal_zone0/temp").strip()
    return {
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "governor": governor or None,
        "temperature_c": int(millidegrees) / 1000 if millidegrees.lstrip("-").isdigit() else None,
    }


def available_cores() -> list[int]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def peak_memory_bytes() -> int:
    """The most memory that was resident in this process so far: VmHWM on Linux, the system's equivalent elsewhere."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", _read("/proc/self/status"), re.MULTILINE)
    if match:
        return int(match.group(1)) * 1024
    if sys.platform == "win32":
        return _peak_working_set_bytes()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _peak_working_set_bytes() -> int:
    """Windows' PeakWorkingSetSize: the field after two 32-bit ones in PROCESS_MEMORY_COUNTERS."""
    import ctypes

    counters = (ctypes.c_size_t * 10)()
    system: Any = ctypes
    system.windll.kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(system.windll.kernel32.GetCurrentProcess())
    if not system.windll.psapi.GetProcessMemoryInfo(process, counters, ctypes.sizeof(counters)):
        raise OSError("Windows does not tell this process's memory")
    return int(counters[1])


def _read(path: str) -> str:
    """A file's text, or nothing where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl(names: str) -> str:
    """The values of one or more of macOS's settings."""
    with contextlib.suppress(OSError):
        command = ["sysctl", "-n", *names.split()]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""


# Shapes and inputs: a size that is no number (a name or nothing) is a dynamic axis


def dynamic_axes(inputs: dict[str, list[Any]]) -> dict[str, int]:
    """The dynamic axes of all inputs by name (see `axis_name`), and the position at which each stands first."""
    found: dict[str, int] = {}
    for name, shape in inputs.items():
        for position, size in enumerate(shape):
            if not isinstance(size, int):
                found.setdefault(axis_name(name, position, size), position)
    return found


def axis_name(name: str, position: int, size: Any) -> str:
    """How a dynamic axis is called: by its own name, else by its input and position, as in `pixels:2`."""
    return size if isinstance(size, str) and size else f"{name}:{position}"


def batch_names(inputs: dict[str, list[Any]], axes: dict[str, int]) -> set[str]:
    """Which dynamic axes are the batch, but for those that `axes` sets: those called so, else those that stand first.

    A nameless first axis is the batch as well.
    """
    dynamic = dynamic_axes(inputs)
    first = {name for name, position in dynamic.items() if position == 0}
    called = {name for name in dynamic if name.lower() in BATCH_NAMES}
    return (called | {name for name in first if ":" in name} if called else first) - set(axes)


def fixed_batch(inputs: dict[str, list[Any]], axes: dict[str, int]) -> int | None:
    """The batch size that a file is bound to (its first input's first axis), or None if its batch is dynamic."""
    if batch_names(inputs, axes):
        return None
    name, shape = next(iter(inputs.items()), ("", []))
    size = shape[0] if shape else 1
    return size if isinstance(size, int) else axes[axis_name(name, 0, size)]


def concrete_shapes(inputs: dict[str, list[Any]], batch: int, axes: dict[str, int]) -> dict[str, list[int]]:
    """The shape of each input, with `batch` and `axes` put in for the dynamic axes."""
    known = {**dict.fromkeys(batch_names(inputs, axes), batch), **axes}
    dynamic = sorted(dynamic_axes(inputs))
    missing = [name for name in dynamic if name not in known]
    if missing:
        what, need = ("axes", "need sizes") if len(missing) > 1 else ("axis", "needs a size")
        flags = " ".join(f"--shape {name}=SIZE" for name in missing)
        settings = ", ".join(f"{name}: SIZE" for name in missing)
        named = ", ".join(f"'{name}'" for name in missing)
        raise RequestError("axes", f"its dynamic {what} {named} {need}: {flags} (in a target: shapes: {{{settings}}})")
    unused = [name for name in axes if name not in dynamic]
    if unused:
        there = f"its dynamic axes are {', '.join(dynamic)}" if dynamic else "it has no dynamic axes"
        raise RequestError("axes", f"it has no dynamic axis '{unused[0]}': {there}")
    return {
        name: [size if isinstance(size, int) else known[axis_name(name, i, size)] for i, size in enumerate(shape)]
        for name, shape in inputs.items()
    }


def made_up(shape: list[int], dtype: str) -> Any:
    """Seeded random values: normal for floats, 0 and 1 for integers (which any embedding table accepts)."""
    import numpy

    generator = numpy.random.default_rng(0)
    if dtype.startswith("float"):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


# ONNX Runtime


def open_session(model: str, provider: str, threads: int, profile: str = "") -> Any:
    """An InferenceSession with explicit threads that sleep when idle (spinning harms everybody on a shared machine).

    `profile` is how the file begins in which the runtime notes the time of each operator; nothing: it does not.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        there = ", ".join(onnxruntime.get_available_providers())
        raise RequestError(
            "provider", f"ONNX Runtime {onnxruntime.__version__} here has no {provider} (it has {there})"
        )
    if not Path(model).is_file():
        raise RequestError("model", "there is no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # what is wrong comes as an exception
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        session = onnxruntime.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise RequestError("model", f"ONNX Runtime {onnxruntime.__version__} cannot load it: {plain(error)}") from error
    if session.get_providers()[0] != provider:
        raise RequestError(
            "provider", f"{provider} could not be used: ONNX Runtime fell back to {session.get_providers()[0]}"
        )
    return session


def plain(error: BaseException) -> str:
    """An exception's text in one line, without ONNX Runtime's error number and source positions."""
    text = re.sub(r"\[ONNXRuntimeError\] : \d+ : ", "", str(error))
    text = re.sub(r"\S*/onnxruntime/core/\S+ ", "", text)
    return " ".join(text.split())[:600] or type(error).__name__


def input_shapes(session: Any) -> dict[str, list[Any]]:
    """Each input's shape as the file says it, dynamic axes by name or None."""
    return {item.name: list(item.shape) for item in session.get_inputs()}


def feeds_for(session: Any, batch: int, axes: dict[str, int]) -> dict[str, Any]:
    """Made-up inputs for one call."""
    shapes = concrete_shapes(input_shapes(session), batch, axes)
    for item in session.get_inputs():
        if item.type not in DTYPES:
            raise RequestError("model", f"values for its input '{item.name}' of type {item.type} cannot be made up")
    feeds = {item.name: made_up(shapes[item.name], DTYPES[item.type]) for item in session.get_inputs()}
    for name, values in feeds.items():
        if "mask" in name.lower() and values.dtype.kind != "f":
            values[...] = 1  # what is masked may be skipped, and some kernels do
    return feeds


@contextlib.contextmanager
def running(feeds: dict[str, Any]) -> Iterator[None]:
    """Says with which inputs a model failed."""
    try:
        yield
    except Exception as error:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feeds.items())
        raise RequestError("run", f"it fails when run on {shapes}: {plain(error)}") from error


# Measuring


def latency(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Raw samples in nanoseconds for each batch size, peak memory after each, then throughput at a larger batch."""
    inputs, axes = input_shapes(session), request.get("axes", {})
    bound = fixed_batch(inputs, axes)
    runs = []
    for batch in sorted(set(request["batches"])) if bound is None else [bound]:
        feeds = feeds_for(session, batch, axes)
        with running(feeds):
            warm_up(session, feeds, request["warmup_seconds"])
            samples = timed(session, feeds, request["seconds"], request["minimum_calls"])
        shapes = {name: list(value.shape) for name, value in feeds.items()}
        runs.append({"batch": batch, "shapes": shapes, "samples_ns": samples, "peak_bytes": peak_memory_bytes()})
    found: dict[str, Any] = {"runs": runs}
    if request.get("throughput_batch"):
        batch = request["throughput_batch"] if bound is None else bound
        feeds = feeds_for(session, batch, axes)
        with running(feeds):
            warm_up(session, feeds, 0.0)
            samples = timed(session, feeds, request["throughput_seconds"], 2)
        found["throughput"] = {"batch": batch, "examples_per_second": batch * len(samples) / (sum(samples) / 1e9)}
    return found


def warm_up(session: Any, feeds: dict[str, Any], seconds: float) -> None:
    """Unmeasured calls: at least one, for at least `seconds` and 20 calls unless those would take ten times as long."""
    start, calls = time.perf_counter(), 0
    while True:
        session.run(None, feeds)
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds and (calls >= WARMUP_CALLS or elapsed >= PATIENCE * seconds):
            return


def timed(session: Any, feeds: dict[str, Any], seconds: float, minimum_calls: int) -> list[int]:
    """The nanoseconds of each call, for at least `seconds` and `minimum_calls`."""
    clock, run, samples = time.perf_counter_ns, session.run, []
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


def operators(model: str, provider: str, threads: int, request: dict[str, Any]) -> dict[str, Any]:
    """The mean microseconds of each operator of the graph that the runtime made of the file, by its name there.

    The runtime's own clock counts whole microseconds, so that many calls are averaged: the faster half of them but for
    the fastest tenth, since in slower ones something else ran. Asked are `seconds`, `minimum_calls`, `batch`, `axes`.
    """
    with tempfile.TemporaryDirectory(prefix="compress-operators-") as folder:
        session = open_session(model, provider, threads, str(Path(folder) / "profile"))
        feeds = feeds_for(session, request["batch"], request.get("axes", {}))
        with running(feeds):
            warm_up(session, feeds, 0.0)
            calls = len(timed(session, feeds, request["seconds"], request["minimum_calls"]))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    durations: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for event in events:
        name = event["name"]
        if event.get("cat") == "Node" and name.endswith(KERNEL):
            durations.setdefault(name[: -len(KERNEL)], []).append(event["dur"])
            kinds[name[: -len(KERNEL)]] = event["args"].get("op_name", "")
    found = []
    for name, times in durations.items():
        kept = sorted(times[-calls:])
        kept = kept[len(kept) // 10 : len(kept) // 2 + 1]
        found.append({"name": name, "operator": kinds[name], "microseconds": sum(kept) / len(kept)})
    return {"operators": found, "calls": calls}


def answers(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Run all examples of `inputs` (input name -> .npy file) in batches; write the first output into `output`.

    `lengths` (input name -> .npy file of whole numbers), where given, says how much of an input's second axis each
    example fills: batches are cut to their longest. With `condense: tokens` outputs are logits (examples, tokens,
    vocabulary) of which `condensed_tokens` is written, by the right tokens in the file `targets`.
    """
    import numpy

    arrays = {name: numpy.load(path, mmap_mode="r") for name, path in request["inputs"].items()}
    lengths = {name: numpy.load(path) for name, path in request.get("lengths", {}).items()}
    targets = numpy.load(request["targets"], mmap_mode="r") if request.get("condense") == "tokens" else None
    there = [item.name for item in session.get_inputs()]
    if sorted(there) != sorted(arrays):
        raise RequestError("run", f"its inputs are {', '.join(there)}, but values were given for {', '.join(arrays)}")
    count = len(next(iter(arrays.values())))
    shapes = input_shapes(session)
    bound = fixed_batch(shapes, {})
    batch = request["batch"] if bound is None else bound
    name, result = session.get_outputs()[0].name, None
    for start in range(0, count, batch):
        size = min(batch, count - start)
        positions = numpy.minimum(numpy.arange(start, start + (size if bound is None else batch)), count - 1)
        feeds = {key: cut(array[positions], lengths.get(key), positions) for key, array in arrays.items()}
        cuts = {key: values.shape for key, values in feeds.items()}
        feeds = {key: filled(values, shapes[key], key in lengths) for key, values in feeds.items()}
        lengthened = any(values.shape != cuts[key] for key, values in feeds.items())
        with running(feeds):
            output = session.run([name], feeds)[0]
        if output.ndim == 0 or len(output) != len(positions):
            raise RequestError(
                "run", f"its output '{name}' has shape {list(output.shape)} for {len(positions)} examples"
            )
        if targets is not None:
            given = output[:, : targets.shape[1]] if lengthened else output
            output = condensed_tokens(given, targets[positions], name)
        if result is None:
            rest = output.shape[1:] if targets is None else (targets.shape[1], *output.shape[2:])
            result = numpy.lib.format.open_memmap(request["output"], "w+", output.dtype, (count, *rest))
        place = (slice(start, start + size), *([slice(0, output.shape[1])] if targets is not None else []))
        result[place] = output[:size]
    if result is not None:
        result.flush()
    return {"output": name, "examples": count}


def cut(values: Any, lengths: Any, positions: Any) -> Any:
    """One batch of an input, contiguous, without columns that no example of the batch fills."""
    import numpy

    return numpy.ascontiguousarray(values if lengths is None else values[:, : max(1, int(lengths[positions].max()))])


def filled(values: Any, shape: list[Any], ragged: bool) -> Any:
    """One batch of rows of unlike lengths, with zeros up to the length that the model's input has, if it is fixed."""
    import numpy

    missing = shape[1] - values.shape[1] if ragged and len(shape) == 2 and isinstance(shape[1], int) else 0
    return numpy.pad(values, ((0, 0), (0, missing))) if missing > 0 else values


def condensed_tokens(logits: Any, targets: Any, name: str) -> Any:
    """What `compress.tasks.tokens` keeps of logits (N, T, V), for right tokens (N, T or more; -100: does not count).

    (N, T, 4) of float32: the token with the largest logit, the negative log-likelihood of the right one in nats,
    whether it counts, and whether the largest was right; zeros where it does not count.
    """
    import numpy

    if logits.ndim != 3 or logits.shape[1] > targets.shape[1]:
        raise RequestError("run", f"its output '{name}' has shape {list(logits.shape)}, and not one row for each token")
    right = targets[:, : logits.shape[1]]
    result = numpy.zeros((*right.shape, 4), dtype=numpy.float32)
    for example, wanted in enumerate(right):
        counted = numpy.flatnonzero(wanted != IGNORED)
        if not len(counted):
            continue
        values, token = logits[example, counted].astype(numpy.float32), wanted[counted]
        largest, chosen = values.max(axis=1), values.argmax(axis=1)
        scale = numpy.log(numpy.exp(values - largest[:, None]).sum(axis=1, dtype=numpy.float64))
        nll = largest + scale - values[numpy.arange(len(token)), token]
        result[example, counted] = numpy.stack([chosen, nll, numpy.ones(len(token)), chosen == token], axis=1)
    return result


def do(job: dict[str, Any], provider: str, threads: int) -> dict[str, Any]:
    """One job: load the model, then what it asks for. Memory counts from before the session is made."""
    try:
        if "operators" in job:
            return operators(job["model"], provider, threads, job["operators"])
        base = peak_memory_bytes()
        start = time.perf_counter_ns()
        session = open_session(job["model"], provider, threads)
        result: dict[str, Any] = {"load_ms": (time.perf_counter_ns() - start) / 1e6, "base_bytes": base}
        if "latency" in job:
            result.update(latency(session, job["latency"]))
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
    jobs = [do(job, request["provider"], request["threads"]) for job in request["jobs"]]
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "onnxruntime": onnxruntime.__version__}
    result = {"machine": machine(), "conditions": conditions(), "versions": versions, "jobs": jobs}
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python measure.py REQUEST.json RESULT.json")
    sys.exit(main(sys.argv[1], sys.argv[2]))
