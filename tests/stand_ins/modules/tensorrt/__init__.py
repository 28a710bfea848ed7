"""A stand-in for TensorRT 11, for tests on machines without it. It is no TensorRT: its engines run in ONNX Runtime.

Its classes take what the real ones take and no more (`signed`). What it does is set by the environment:
STAND_IN_TENSORRT_VERSION, STAND_IN_UNREADABLE (operators that the parser refuses, with commas between),
STAND_IN_WORKSPACE_MIB (what a build needs) and those of `libcuda.c`.
"""

from __future__ import annotations

import base64
import ctypes
import json
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy
import onnx
import onnxruntime

from tensorrt.signed import members, signed

__version__ = os.environ.get("STAND_IN_TENSORRT_VERSION", "11.4.0.106")
if os.environ.get("STAND_IN_BROKEN"):
    raise ImportError(os.environ["STAND_IN_BROKEN"])
DataType, TensorIOMode, Severity = members("DataType"), members("TensorIOMode"), members("Severity")
ProfilingVerbosity, MemoryPoolType = members("ProfilingVerbosity"), members("MemoryPoolType")
LayerInformationFormat = members("LayerInformationFormat")
DATA_TYPES = {
    "float32": DataType.FLOAT, "float16": DataType.HALF, "int8": DataType.INT8, "uint8": DataType.UINT8,
    "int32": DataType.INT32, "int64": DataType.INT64, "bool": DataType.BOOL, "bfloat16": DataType.BF16,
}  # fmt: skip


def _place() -> list[str]:
    return [os.environ.get("STAND_IN_GPU", "Stand-in GPU"), __version__]


@signed
class Dims:
    def __init__(self, shape: Any = ()) -> None:
        self._sizes = [int(size) for size in shape]

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, axis: int) -> int:
        return self._sizes[axis]

    def __iter__(self) -> Iterator[int]:
        return iter(self._sizes)


@signed
class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


@signed
class IProgressMonitor:
    def __init__(self) -> None:
        self._made = True


@signed
class IProfiler:
    def __init__(self) -> None:
        self._made = True


@signed
class IHostMemory(bytes):
    """The real one is no `bytes` but gives them as a buffer, which no class of Python's can before 3.12."""


@signed
class ITensor:
    def __init__(self, value: Any) -> None:
        self._dims = list(value.type.tensor_type.shape.dim)
        self.name = value.name
        self.shape = Dims([dim.dim_value if dim.HasField("dim_value") else -1 for dim in self._dims])
        self._dtype = DATA_TYPES[str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))]

    @property
    def dtype(self) -> Any:
        return self._dtype

    def get_dimension_name(self, index: int) -> str:
        return str(self._dims[index].dim_param)


@signed
class INetworkDefinition:
    def __init__(self) -> None:
        self._model: Any = None

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    def get_input(self, index: int) -> ITensor:
        return ITensor(self._model.graph.input[index])


@signed
class ParserError:
    def __init__(self, node: Any, index: int) -> None:
        self._node, self._index = node, index

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return str(self._node.name) if self._node else ""

    def node_operator(self) -> str:
        return str(self._node.op_type) if self._node else ""

    def desc(self) -> str:
        if self._node is None:
            return "Failed to parse ONNX model from file"
        return f"In function importFallbackPluginImporter:\n[8] Assertion failed: no importer for {self._node.op_type}"


@signed
class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._errors: list[ParserError] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]

    def parse_from_file(self, model: str) -> bool:
        try:
            self._network._model = onnx.load(model)
        except Exception:
            self._errors = [ParserError(None, -1)]
            return False
        unreadable = os.environ.get("STAND_IN_UNREADABLE", "").split(",")
        nodes = enumerate(self._network._model.graph.node)
        self._errors = [ParserError(node, index) for index, node in nodes if node.op_type in unreadable]
        return not self._errors


@signed
class ITimingCache:
    def __init__(self, content: bytes = b"") -> None:
        known = json.loads(content) if content else {"place": _place(), "timed": []}
        self._place, self._timed = known["place"], set(known["timed"])

    def serialize(self) -> IHostMemory:
        return IHostMemory(json.dumps({"place": self._place, "timed": sorted(self._timed)}).encode())


@signed
class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, input: str, min: Dims, opt: Dims, max: Dims) -> None:
        self._shapes[input] = [list(min), list(opt), list(max)]


@signed
class IBuilderConfig:
    def __init__(self) -> None:
        self.progress_monitor: Any = None
        self._profiles: list[IOptimizationProfile] = []
        self._limits: dict[Any, int] = {}
        self._cache = ITimingCache()

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._limits[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> ITimingCache:
        return ITimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache._place != _place() and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> ITimingCache:
        return self._cache


@signed
class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        dynamic = [item.name for item in map(ITensor, network._model.graph.input) if -1 in list(item.shape)]
        shapes = config._profiles[0]._shapes if config._profiles else {}
        if set(dynamic) != set(shapes):
            self._logger.log(Severity.ERROR, "Network has dynamic or shape inputs, but no optimization profile")
            return None
        limit = config._limits.get(MemoryPoolType.WORKSPACE, 2**62)
        if limit < int(os.environ.get("STAND_IN_WORKSPACE_MIB", "0")) * 2**20:
            self._logger.log(Severity.WARNING, "Skipping tactic 0 due to insufficient memory on requested size")
            self._logger.log(Severity.ERROR, "Error Code 10: Could not find any implementation for node Conv_0")
            return None
        self._time(network, config)
        model = base64.b64encode(network._model.SerializeToString()).decode()
        return IHostMemory(json.dumps({"place": _place(), "shapes": shapes, "model": model}).encode())

    def _time(self, network: INetworkDefinition, config: IBuilderConfig) -> None:
        """Tells of each operator that no cache knows as of one step."""
        todo = [node.name for node in network._model.graph.node if node.name not in config._cache._timed]
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, max(len(todo), 1))
        for step, name in enumerate(todo):
            monitor.phase_start("Timing", "Building engine", 1)
            monitor.step_complete("Timing", 0)
            monitor.phase_finish("Timing")
            if not monitor.step_complete("Building engine", step):
                return
            config._cache._timed.add(name)
        monitor.phase_finish("Building engine")


@signed
class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        try:
            return ICudaEngine(json.loads(serialized_engine))
        except ValueError:
            self._logger.log(Severity.ERROR, "Error Code 1: Serialization (magic number does not match)")
            return None


@signed
class ICudaEngine:
    def __init__(self, plan: Any = None) -> None:
        self._shapes = plan["shapes"]
        self._model = onnx.load_from_string(base64.b64decode(plan["model"]))
        self._tensors = {
            item.name: item for item in map(ITensor, [*self._model.graph.input, *self._model.graph.output])
        }

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def device_memory_size_v2(self) -> int:
        return 4096

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._tensors)[index])

    def get_tensor_mode(self, name: str) -> Any:
        is_input = any(item.name == name for item in self._model.graph.input)
        return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name].dtype

    def get_tensor_shape(self, name: str) -> Dims:
        return self._tensors[name].shape

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        return [Dims(shape) for shape in self._shapes[name]]

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self)


@signed
class EngineInspector:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_engine_information(self, format: Any) -> str:
        layers = [{"Name": node.name, "LayerType": node.op_type} for node in self._engine._model.graph.node]
        return json.dumps({"Layers": layers})


@signed
class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self.profiler: Any = None
        self._engine = engine
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(engine._model.SerializeToString(), options)
        self._given: dict[str, list[int]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: Any) -> bool:
        fixed = list(self._engine._tensors[name].shape)
        least, _, most = self._engine._shapes.get(name, [fixed] * 3)
        if len(shape) != len(least) or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return False
        self._given[name] = list(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def infer_shapes(self) -> list[str]:
        return [item.name for item in self._engine._model.graph.input if item.name not in self._given]

    def get_tensor_shape(self, name: str) -> Dims:
        if name in self._given:
            return Dims(self._given[name])
        outputs = self._run({key: numpy.zeros(shape, self._type(key)) for key, shape in self._given.items()})
        return Dims(outputs[name].shape)

    def execute_async_v3(self, stream_handle: int) -> bool:
        feeds = {}
        for name, shape in self._given.items():
            size = math.prod(shape) * self._type(name).itemsize
            feeds[name] = numpy.frombuffer(ctypes.string_at(self._addresses[name], size), self._type(name)).reshape(
                shape
            )
        for name, values in self._run(feeds).items():
            ctypes.memmove(self._addresses[name], numpy.ascontiguousarray(values).ctypes.data, values.nbytes)
        for index, node in enumerate(self._engine._model.graph.node if self.profiler else ()):
            self.profiler.report_layer_time(node.name, 0.001 * (index + 1))
        return True

    def _run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        names = [item.name for item in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, feeds), strict=True))

    def _type(self, name: str) -> Any:
        kinds = {kind: numpy.dtype(text) for text, kind in DATA_TYPES.items() if text != "bfloat16"}
        return kinds[self._engine._tensors[name].dtype]
