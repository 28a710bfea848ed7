"""Builds a TensorRT engine from an ONNX file, on the machine whose GPU it is for. Runs there: NumPy and tensorrt alone.

Written for TensorRT 11, whose networks are strongly typed: precision is what the ONNX file says. What an engine belongs
to (`place`) is told beside it.

Source: TensorRT 11's Python API (https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.targets.measuring.axes import concrete_shapes
from compress.targets.measuring.errors import RequestError
from compress.targets.measuring_tensorrt.cuda_driver import Cuda
from compress.targets.measuring_tensorrt.place import belongs_to

if TYPE_CHECKING:
    import tensorrt as trt

PROGRESS = "progress "
"""How a line on standard output begins that tells how far a build is; JSON follows."""
LAST_MESSAGES = 3
"""How many of TensorRT's last complaints a failure names."""
SHORT_OF_MEMORY = re.compile(r"insufficient (?:\w+ )?(?:memory|workspace)|out ?of ?memory|workspace", re.IGNORECASE)
MOMENT_SECONDS = 0.2


def make_logger() -> Any:
    """An ILogger that keeps warnings and errors in its list `said`, for the message of a failure."""
    import tensorrt

    class Kept(tensorrt.ILogger):
        def __init__(self) -> None:
            tensorrt.ILogger.__init__(self)
            self.said: list[str] = []

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            levels = tensorrt.ILogger.Severity
            if severity in (levels.INTERNAL_ERROR, levels.ERROR, levels.WARNING):
                self.said.append(" ".join(msg.split()))

    return Kept()


def make_monitor() -> Any:
    """An IProgressMonitor that prints the outermost phase's steps, a line each, but no more than five a second."""
    import tensorrt

    class Told(tensorrt.IProgressMonitor):
        def __init__(self) -> None:
            tensorrt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._told = 0.0
            self._lock = threading.Lock()  # TensorRT calls from several threads

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: Any) -> None:
            with self._lock:
                if not parent_phase:
                    self._steps[phase_name] = int(num_steps)
                    self._tell(phase_name, 0)

        def step_complete(self, phase_name: str, step: Any) -> bool:
            with self._lock:
                if phase_name in self._steps and time.monotonic() - self._told >= MOMENT_SECONDS:
                    self._tell(phase_name, int(step) + 1)
            return True

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                steps = self._steps.pop(phase_name, None)
                if steps is not None:
                    self._tell(phase_name, steps)

        def _tell(self, phase: str, step: int) -> None:
            self._told = time.monotonic()
            line = json.dumps({"phase": phase, "step": step, "steps": self._steps.get(phase, step)})
            sys.stdout.write(PROGRESS + line + "\n")
            sys.stdout.flush()

    return Told()


def build(model: str, request: Mapping[str, Any], cuda: Cuda, target: str) -> dict[str, Any]:
    """Build the engine of an ONNX file into `request["engine"]`; what it belongs to goes into `facts`, as JSON.

    Asked are `batches` and for each other dynamic axis `axes[name]`: the least size, the one to be fastest at, the
    largest; `workspace_bytes` (None: all of the GPU's memory) and `timing_cache` (None, or a file to `write` and one
    to `read`, or None). With `parse_only` the file is only read, and its axes are checked. Returns what was written as
    JSON (`made`), `seconds` and `notes`.

    Raises:
        RequestError: The file cannot be read (`parse`), an axis needs a size, memory does not suffice, or TensorRT
            finds no kernels (`build`).
    """
    import tensorrt

    start = time.monotonic()
    if not Path(model).is_file():
        raise RequestError("model", "there is no such file")
    logger, monitor = make_logger(), make_monitor()  # both must outlive all that uses them
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)  # strongly typed, as all are in version 11
    parse(network, model, logger)
    inputs = named_shapes(network)
    ranges = shape_ranges(inputs, request)
    if request.get("parse_only"):
        return {}
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    config.profiling_verbosity = tensorrt.ProfilingVerbosity.DETAILED  # tells the kinds of layers; costs no time
    if request.get("workspace_bytes"):
        config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, request["workspace_bytes"])
    profile = builder.create_optimization_profile()
    for name, (least, best, most) in ranges.items():
        profile.set_shape(name, tensorrt.Dims(least), tensorrt.Dims(best), tensorrt.Dims(most))
    if ranges:
        config.add_optimization_profile(profile)
    timing = request.get("timing_cache")
    kept, notes = read_timing_cache(config, timing["read"]) if timing else (None, [])  # must outlive the build
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failed(logger.said, request.get("workspace_bytes"))
    if timing and kept is not None:
        _write(Path(timing["write"]), config.get_timing_cache().serialize())
    made = {
        **belongs_to(cuda),
        "model_sha256": hashlib.sha256(Path(model).read_bytes()).hexdigest(),
        "inputs": inputs,
        "shapes": {name: {"min": a, "opt": b, "max": c} for name, (a, b, c) in ranges.items()},
    }
    _write(Path(request["engine"]), plan)
    text = json.dumps(made, indent=1, sort_keys=True) + "\n"
    _write(Path(request["facts"]), text.encode())
    return {"made": made, "seconds": round(time.monotonic() - start, 3), "notes": notes}


def parse(network: trt.INetworkDefinition, model: str, logger: trt.ILogger) -> None:
    """Read an ONNX file into a network. Raises RequestError with every complaint of the parser and its node."""
    import tensorrt

    parser = tensorrt.OnnxParser(network, logger)
    if parser.parse_from_file(model):
        return
    said = []
    for index in range(parser.num_errors):
        error: trt.ParserError = parser.get_error(index)
        where = f"node {error.node()} '{error.node_name()}' ({error.node_operator()}): " if error.node() >= 0 else ""
        said.append(f"{where}{' '.join(error.desc().split())}")
    count = f"{len(said)} error{'' if len(said) == 1 else 's'}"
    listed = "; ".join(said) or "it does not say why"
    raise RequestError("parse", f"TensorRT {tensorrt.__version__} cannot read it ({count}): {listed}")


def named_shapes(network: trt.INetworkDefinition) -> dict[str, list[Any]]:
    """Each input's shape; a dynamic axis is its name in the ONNX file, or None if it has none."""
    found: dict[str, list[Any]] = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        found[tensor.name] = [
            size if size >= 0 else (tensor.get_dimension_name(axis) or None)
            for axis, size in enumerate(sizes_of(tensor.shape))
        ]
    return found


def sizes_of(dims: trt.Dims) -> list[int]:
    """A shape of TensorRT's as a list."""
    return [dims[axis] for axis in range(len(dims))]


def shape_ranges(
    inputs: dict[str, list[Any]], request: Mapping[str, Any]
) -> dict[str, tuple[list[int], list[int], list[int]]]:
    """(least, best, largest) shape of each input that has a dynamic axis. RequestError if an axis has no size."""
    axes, batches = request.get("axes", {}), request["batches"]
    shapes = [
        concrete_shapes(inputs, batches[which], {name: sizes[which] for name, sizes in axes.items()})
        for which in range(3)
    ]
    dynamic = [name for name, shape in inputs.items() if not all(isinstance(size, int) for size in shape)]
    return {name: (shapes[0][name], shapes[1][name], shapes[2][name]) for name in dynamic}


def read_timing_cache(config: trt.IBuilderConfig, path: str | None) -> tuple[trt.ITimingCache, list[str]]:
    """The timing cache to build with, that of the file if it is of this GPU and version; and what is to be said."""
    known = b"" if path is None else Path(path).read_bytes()
    cache = config.create_timing_cache(known)
    if cache and config.set_timing_cache(cache, ignore_mismatch=False):
        return cache, []
    cache = config.create_timing_cache(b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache, ["the timing cache is of another GPU or version and was begun anew"]


def _failed(said: list[str], workspace_bytes: int | None) -> RequestError:
    """Why there is no engine, from what TensorRT has said."""
    last = "; ".join(said[-LAST_MESSAGES:]) or "it does not say why"
    if any(SHORT_OF_MEMORY.search(message) for message in said):
        limit = "all of the GPU's memory" if workspace_bytes is None else f"{workspace_bytes / 2**20:.0f} MiB"
        return RequestError(
            "memory",
            f"TensorRT's workspace ({limit}) does not suffice: {last}; give it more with `workspace_mib:` of the "
            "target, free the GPU's memory, or ask for smaller `batches` and `throughput_batch`",
        )
    return RequestError("build", f"TensorRT could not build the engine: {last}")


def _write(path: Path, content: Any) -> None:
    """Write bytes (or what gives them) whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
