"""The one measuring program: gives a model's answers, its raw latency, load time, memory and energy, where it runs.

    python measure.py REQUEST.json RESULT.json

The same file runs here in a fresh process and is copied to devices, so it needs Python >= 3.9, NumPy and ONNX Runtime
and nothing else, and imports those only when it runs. The request is `{"threads", "cores", "provider",
"stop_with_stdin", "jobs": [{"model", "latency": {...}, "answers": {...}}, {"model", "operators": {...}}]}`; the result
`{"machine", "conditions", "conditions_before", "versions", "jobs": [...]}` holds for each job what was measured, or
`{"error": {"kind", "message"}}`.

ONNX Runtime 1.29 and later report to Microsoft unless ORT_DISABLE_TELEMETRY is set before the import: an uploading
thread, a data base in the home folder, a file in the temporary one. Here it is set, unless the user has set it.
"""

from __future__ import annotations

import array
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
WARMUP_CALLS = 20  # wanted in the warm-up
PATIENCE = 10  # so many times the asked-for seconds may the warm-up of a slow model last
ENERGY_SECONDS = 1.0  # least time over which energy is counted: the driver of a GPU counts it ten times a second
POWER_SECONDS = 0.02  # between two readings of a sensor that tells power
CPUS, THERMAL = "/sys/devices/system/cpu", "/sys/class/thermal"
PI_FLAGS = "/sys/devices/platform/soc/soc:firmware/get_throttled"


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


def conditions(cores: list[int] | None = None) -> dict[str, Any]:
    """What may disturb a measurement: load over a minute, frequency governor, temperature in degrees Celsius.

    The temperature is that of the hottest zone. With `cores` also the frequency of each of them in MHz, how often heat
    slowed an x86 processor down since it was started, and whether a Raspberry Pi is slowed down now. What the system
    does not tell is null.
    """
    governor = _read(f"{CPUS}/cpu0/cpufreq/scaling_governor").strip()
    zones = [_read(str(path)).strip() for path in Path(THERMAL).glob("thermal_zone*/temp")]
    degrees = [int(text) / 1000 for text in zones if text.lstrip("-").isdigit()]
    found = {
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "governor": governor or None,
        "temperature_c": max(degrees, default=None),
    }
    if cores is None:
        return found
    slowed = {"throttle_count": throttle_count(), "throttled_now": throttled_now()}
    return {**found, "frequency_mhz": frequencies_mhz(cores), **slowed}


def frequencies_mhz(cores: list[int]) -> list[float] | None:
    """The frequency of each core now, as cpufreq or /proc/cpuinfo tells it."""
    kilohertz = [_read(f"{CPUS}/cpu{core}/cpufreq/scaling_cur_freq").strip() for core in cores]
    if all(text.isdigit() for text in kilohertz):
        return [int(text) / 1000 for text in kilohertz]
    told = [float(text) for text in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _read("/proc/cpuinfo"), re.MULTILINE)]
    return [told[core] for core in cores] if cores and max(cores) < len(told) else None


def throttle_count() -> int | None:
    """How often heat slowed a core or a package of this x86 processor down, summed over them."""
    counts = [_read(str(path)).strip() for path in Path(CPUS).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")]
    return sum(int(text) for text in counts if text.isdigit()) if counts else None


def throttled_now() -> bool | None:
    """Whether a Raspberry Pi is slowed down now by heat or low voltage: one of the last four bits of its flags."""
    with contextlib.suppress(ValueError):
        return int(_read(PI_FLAGS).strip(), 16) & 0b1111 != 0
    return None


def available_cores() -> list[int]:
    """The cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


# Memory


def forget_peak_memory() -> None:
    """Start the peak anew where Linux lets us: what importing libraries took for a moment hides what a model takes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


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


# NVIDIA's driver, by its library NVML


class Nvml:
    """What NVIDIA's driver tells of one GPU. Raises OSError where there is no driver or no such GPU."""

    def __init__(self, library: Any = None) -> None:
        import ctypes

        self._c: Any = ctypes
        self._library = library or ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        self._call("nvmlInit_v2")
        self._gpu = ctypes.c_void_p()
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if first.startswith(("GPU-", "MIG-")):
            self._call("nvmlDeviceGetHandleByUUID", first.encode(), ctypes.byref(self._gpu))
        else:
            self._call("nvmlDeviceGetHandleByIndex_v2", int(first) if first.isdigit() else 0, ctypes.byref(self._gpu))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise OSError(f"NVIDIA's driver refuses {name} (status {status})")

    def used_bytes(self) -> int:
        """The memory of the GPU that is in use, by this process and all others."""
        sizes = (self._c.c_ulonglong * 3)()  # nvmlMemory_t: total, free, used
        self._call("nvmlDeviceGetMemoryInfo", self._gpu, self._c.byref(sizes))
        return int(sizes[2])

    def joules(self) -> float:
        """The energy that the GPU took since the driver was loaded; since Volta, else OSError."""
        millijoules = self._c.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._gpu, self._c.byref(millijoules))
        return int(millijoules.value) / 1000


def open_nvml(provider: str) -> Nvml | None:
    """The GPU that `provider` computes on, or None if it computes on none or no driver tells."""
    if provider not in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        return None
    try:
        return Nvml()
    except (OSError, AttributeError):
        return None


# Energy: whole packages, GPUs and boards, idle included


class Rapl:
    """Intel's and AMD's counters of each processor package, in microjoules, which begin anew when they are full."""

    name = "rapl"

    def __init__(self, root: str = "/sys/class") -> None:
        domains = sorted(Path(root, "powercap").glob("intel-rapl:*"))
        packages = [path for path in domains if _read(str(path / "name")).startswith("package")]
        self._files = [path / "energy_uj" for path in packages if _read(str(path / "energy_uj")).strip().isdigit()]
        self._ranges = [int(_read(str(file.parent / "max_energy_range_uj")) or 0) for file in self._files]
        self._before: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._files)

    def _counters(self) -> list[int]:
        return [int(_read(str(file))) for file in self._files]

    def start(self) -> None:
        """Count from now."""
        self._before = self._counters()

    def stop(self) -> float:
        """Joules since then."""
        joules = 0.0
        for index, after in enumerate(self._counters()):
            before = self._before[index]
            joules += (after - before + (self._ranges[index] if after < before else 0)) / 1e6
        return joules


class Gpu:
    """The counter of an NVIDIA GPU."""

    name = "nvml"

    def __init__(self, nvml: Nvml | None) -> None:
        self._nvml = nvml
        self._before = 0.0

    def __bool__(self) -> bool:
        try:
            return self._nvml is not None and self._nvml.joules() >= 0
        except (OSError, AttributeError):
            return False

    def start(self) -> None:
        """Count from now."""
        self._before = self._nvml.joules() if self._nvml is not None else 0.0

    def stop(self) -> float:
        """Joules since then."""
        return self._nvml.joules() - self._before if self._nvml is not None else 0.0


class Ina3221:
    """A Jetson's sensor of volts and amperes: of the whole board (VDD_IN), else of all its rails summed.

    It tells power at a moment, which a thread of its own reads and sums up (trapezoids).
    """

    name = "ina3221"

    def __init__(self, root: str = "/sys/class") -> None:
        rails: list[tuple[str, Path, Path]] = []
        for chip in sorted(Path(root, "hwmon").glob("hwmon*")):
            if _read(str(chip / "name")).strip() == "ina3221":
                for label in sorted(chip.glob("in*_label")):
                    number = label.name[len("in") : -len("_label")]
                    volts, amperes = chip / f"in{number}_input", chip / f"curr{number}_input"
                    if volts.is_file() and amperes.is_file():
                        rails.append((_read(str(label)).strip(), volts, amperes))
        whole = [rail for rail in rails if rail[0] == "VDD_IN"]
        self._rails = [(volts, amperes) for _, volts, amperes in whole or rails]
        self._readings: list[tuple[float, float]] = []
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __bool__(self) -> bool:
        return bool(self._rails)

    def watts(self) -> float:
        """The power now: millivolts times milliamperes."""
        return sum(float(_read(str(v)) or 0) * float(_read(str(a)) or 0) for v, a in self._rails) / 1e6

    def start(self) -> None:
        """Count from now."""
        self._readings, self._end = [(time.perf_counter(), self.watts())], threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._end.wait(POWER_SECONDS):
            self._readings.append((time.perf_counter(), self.watts()))

    def stop(self) -> float:
        """Joules since then."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        self._readings.append((time.perf_counter(), self.watts()))
        joules, (last, watts) = 0.0, self._readings[0]
        for now, power in self._readings[1:]:
            joules += (now - last) * (watts + power) / 2
            last, watts = now, power
        return joules


def energy_meters(nvml: Nvml | None) -> list[Any]:
    """The meters that this machine has and lets us read: often none, and RAPL only for root."""
    return [meter for meter in (Rapl(), Gpu(nvml), Ina3221()) if meter]


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
    found = {"machine": machine(), "conditions": conditions(cores), "conditions_before": before}
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "onnxruntime": onnxruntime.__version__}
    result = json.dumps({**found, "versions": versions, "jobs": jobs}, default=list)  # samples are arrays
    Path(result_path).write_text(result, encoding="utf-8")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python measure.py REQUEST.json RESULT.json")
    sys.exit(main(sys.argv[1], sys.argv[2]))
