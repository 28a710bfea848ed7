"""A TensorRT engine with the face of an ONNX Runtime session, timed on the GPU. Runs where the engine was built.

`compress.targets.measuring` takes it as they take a session: names, shapes and types of inputs, arrays in and out.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from compress.targets.measuring.errors import RequestError, plain
from compress.targets.measuring.inputs import DTYPES
from compress.targets.measuring_tensorrt.build import make_logger, sizes_of
from compress.targets.measuring_tensorrt.cuda_driver import Cuda, CudaError
from compress.targets.measuring_tensorrt.place import belongs_to, facts_file, refuse_elsewhere

if TYPE_CHECKING:
    import tensorrt as trt

TYPES = {
    "FLOAT": "tensor(float)", "HALF": "tensor(float16)", "BOOL": "tensor(bool)", "INT8": "tensor(int8)",
    "UINT8": "tensor(uint8)", "INT32": "tensor(int32)", "INT64": "tensor(int64)",
}  # fmt: skip
"""TensorRT's data type -> ONNX Runtime's name for it."""


class Buffer:
    """Memory for one tensor, pinned here and on the GPU; grows when asked for more."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.size, self.host, self.device = cuda, 0, 0, 0

    def hold(self, size: int) -> None:
        """Make room for `size` bytes."""
        if self.device and size <= self.size:
            return
        if self.device:
            self.cuda.release(self.device)
            self.cuda.release_host(self.host)
        self.device, self.host, self.size = self.cuda.allocate(size), self.cuda.allocate_host(size), size


class EngineSession:
    """An engine that was loaded, with a context to run it in.

    Raises RequestError if it is of another GPU or version (`engine`) or memory does not suffice (`memory`).
    """

    def __init__(self, path: str, cuda: Cuda, target: str) -> None:
        import tensorrt

        if not Path(path).is_file():
            raise RequestError("model", "there is no such file")
        if not facts_file(path).is_file():
            raise RequestError("model", "it is no engine: no JSON file beside it says what it was built for")
        made = json.loads(facts_file(path).read_text(encoding="utf-8"))
        refuse_elsewhere(made, belongs_to(cuda), target)
        self.cuda, self.logger = cuda, make_logger()
        self.runtime = tensorrt.Runtime(self.logger)
        engine = self.runtime.deserialize_cuda_engine(Path(path).read_bytes())
        if engine is None:
            raise RequestError("engine", f"TensorRT cannot load it: {self._said()}; build it again")
        context = engine.create_execution_context()
        if context is None:
            raise RequestError("memory", f"the GPU's memory does not suffice to run it: {self._said()}")
        self.engine: trt.ICudaEngine = engine
        self.context: trt.IExecutionContext = context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = {name: engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT for name in names}
        self._inputs = [self._described(name, made["inputs"][name]) for name in names if is_input[name]]
        self._outputs = [self._described(name, None) for name in names if not is_input[name]]
        self._buffers = {name: Buffer(cuda) for name in names}
        self._bytes = dict.fromkeys(names, 0)

    def get_inputs(self) -> list[Any]:
        """Name, shape (dynamic axes by name) and type of each input."""
        return self._inputs

    def get_outputs(self) -> list[Any]:
        """Name, shape and type of each output."""
        return self._outputs

    def run(self, names: Sequence[str] | None, feeds: Mapping[str, Any]) -> list[Any]:
        """The named outputs (None: all) for one batch, there and back."""
        self.bind(feeds)
        self.upload()
        self.execute()
        self.download()
        self.cuda.synchronize()
        return [self._array(name) for name in names or [item.name for item in self._outputs]]

    def bind(self, feeds: Mapping[str, Any]) -> None:
        """Set shapes and memory for inputs, whose values are copied into pinned memory, and for outputs."""
        import numpy

        for name, values in feeds.items():
            if not self.context.set_input_shape(name, tuple(values.shape)):
                raise RuntimeError(self._outside(name, values.shape))
            self._hold(name, values.nbytes)
            ctypes.memmove(self._buffers[name].host, numpy.ascontiguousarray(values).ctypes.data, values.nbytes)
        if unknown := self.context.infer_shapes():
            raise RuntimeError(f"shapes are not known of {', '.join(unknown)}")
        for item in self._outputs:
            shape = sizes_of(self.context.get_tensor_shape(item.name))
            if min(shape, default=0) < 0:
                raise RuntimeError(f"the shape of output '{item.name}' depends on the values of inputs")
            self._hold(item.name, math.prod(shape) * numpy.dtype(DTYPES[item.type]).itemsize)

    def upload(self) -> None:
        """Begin to copy the inputs to the GPU."""
        for item in self._inputs:
            self.cuda.to_device(self._buffers[item.name].device, self._buffers[item.name].host, self._bytes[item.name])

    def execute(self) -> None:
        """Begin a run of the engine on what is bound."""
        if not self.context.execute_async_v3(self.cuda.stream):
            raise RuntimeError(f"TensorRT does not run it: {self._said()}")

    def download(self) -> None:
        """Begin to copy the outputs back."""
        for item in self._outputs:
            self.cuda.to_host(self._buffers[item.name].host, self._buffers[item.name].device, self._bytes[item.name])

    def capture(self) -> tuple[int | None, str]:
        """A CUDA graph of one run on what is bound, or None and why there is none. It must have run before."""
        try:
            self.cuda.begin_capture()
            try:
                self.execute()
            except RuntimeError:
                self._abandon_capture()
                raise
            return self.cuda.end_capture(), ""
        except (CudaError, RuntimeError) as error:
            return None, f"timed without a CUDA graph, which could not be captured: {plain(error)}"

    def _abandon_capture(self) -> None:
        """End a capture of which nothing can come, so that the stream can be used again."""
        try:
            self.cuda.release_graph(self.cuda.end_capture())
        except CudaError:  # says that the capture is spoilt, which is known
            return

    def _described(self, name: str, shape: list[Any] | None) -> Any:
        kind = self.engine.get_tensor_dtype(name).name
        if kind not in TYPES:
            raise RequestError(
                "model",
                f"its tensor '{name}' is of type {kind}, which NumPy has not: keep inputs and outputs in float32",
            )
        if shape is None:
            shape = [size if size >= 0 else None for size in sizes_of(self.engine.get_tensor_shape(name))]
        return SimpleNamespace(name=name, shape=shape, type=TYPES[kind])

    def _hold(self, name: str, size: int) -> None:
        self._bytes[name] = size
        self._buffers[name].hold(size)
        self.context.set_tensor_address(name, self._buffers[name].device)

    def _array(self, name: str) -> Any:
        import numpy

        kind = next(item.type for item in self._outputs if item.name == name)
        shape = sizes_of(self.context.get_tensor_shape(name))
        content = ctypes.string_at(self._buffers[name].host, self._bytes[name])
        return numpy.frombuffer(content, dtype=DTYPES[kind]).reshape(shape).copy()

    def _outside(self, name: str, shape: Sequence[int]) -> str:
        """Why a shape is refused: the engine was built for a range of them."""
        least, _, most = map(sizes_of, self.engine.get_tensor_profile_shape(name, 0))
        return (
            f"input '{name}' of shape {list(shape)} is outside of what the engine was built for, {least} to {most}: "
            "its range is that of the target's `batches`, `throughput_batch` and `shapes`"
        )

    def _said(self) -> str:
        return "; ".join(self.logger.said[-3:]) or "it does not say why"
