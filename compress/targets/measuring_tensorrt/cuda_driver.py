"""What measuring on an NVIDIA GPU needs of CUDA: memory, copies, streams, events and graphs, by `ctypes`.

It calls the driver's own library (`libcuda.so.1`), which comes with every NVIDIA driver, a Jetson's too, and whose
interface does not change: so TensorRT is all that must be installed. The package `cuda-python` would be one more, and
CUDA's runtime library lies elsewhere with each way of installing it. TensorRT uses the device's primary context, which
this makes current. Runs on devices: the standard library alone, Python >= 3.9.

Source: CUDA Driver API reference (https://docs.nvidia.com/cuda/cuda-driver-api/), names as `cuda.h` maps them.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream
THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads call does not spoil a capture
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY
_POINTER, _SIZE, _WORD = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "cuInit": (_WORD,),
    "cuDriverGetVersion": (_POINTER,),
    "cuGetErrorString": (ctypes.c_int, _POINTER),
    "cuDeviceGetCount": (_POINTER,),
    "cuDeviceGet": (_POINTER, ctypes.c_int),
    "cuDeviceGetName": (ctypes.c_char_p, ctypes.c_int, ctypes.c_int),
    "cuDeviceGetAttribute": (_POINTER, ctypes.c_int, ctypes.c_int),
    "cuDeviceTotalMem_v2": (_POINTER, ctypes.c_int),
    "cuDevicePrimaryCtxRetain": (_POINTER, ctypes.c_int),
    "cuCtxSetCurrent": (_POINTER,),
    "cuMemGetInfo_v2": (_POINTER, _POINTER),
    "cuMemAlloc_v2": (_POINTER, _SIZE),
    "cuMemFree_v2": (ctypes.c_uint64,),
    "cuMemAllocHost_v2": (_POINTER, _SIZE),
    "cuMemFreeHost": (_POINTER,),
    "cuMemcpyHtoDAsync_v2": (ctypes.c_uint64, _POINTER, _SIZE, _POINTER),
    "cuMemcpyDtoHAsync_v2": (_POINTER, ctypes.c_uint64, _SIZE, _POINTER),
    "cuStreamCreate": (_POINTER, _WORD),
    "cuStreamSynchronize": (_POINTER,),
    "cuStreamBeginCapture_v2": (_POINTER, ctypes.c_int),
    "cuStreamEndCapture": (_POINTER, _POINTER),
    "cuGraphInstantiateWithFlags": (_POINTER, _POINTER, ctypes.c_ulonglong),
    "cuGraphLaunch": (_POINTER, _POINTER),
    "cuGraphExecDestroy": (_POINTER,),
    "cuGraphDestroy": (_POINTER,),
    "cuEventCreate": (_POINTER, _WORD),
    "cuEventRecord": (_POINTER, _POINTER),
    "cuEventSynchronize": (_POINTER,),
    "cuEventElapsedTime": (_POINTER, _POINTER, _POINTER),
}
"""The functions used and the types of their arguments; each returns a CUresult, 0 for success."""


class CudaError(Exception):
    """A call failed, or there is no driver or GPU; `code` is its CUresult (-1: the library is missing)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Cuda:
    """The first GPU, its primary context current in this thread. Raises CudaError if there is none."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise CudaError(f"NVIDIA's driver is not installed ({LIBRARY} cannot be loaded)", -1) from error
        for name, arguments in ARGUMENTS.items():
            getattr(self.library, name).argtypes = arguments
        self._call("cuInit", 0)
        if self._integer("cuDeviceGetCount") < 1:
            raise CudaError("there is no NVIDIA GPU", 100)
        self.device = self._integer("cuDeviceGet", 0)
        self._call("cuCtxSetCurrent", self._handle("cuDevicePrimaryCtxRetain", self.device))
        self.stream = self._handle("cuStreamCreate", NON_BLOCKING)
        self._before, self._after = self._handle("cuEventCreate", 0), self._handle("cuEventCreate", 0)

    def describe(self) -> dict[str, Any]:
        """`gpu`, `compute_capability`, `memory_bytes`, `cuda` (the newest that the driver can do) and `driver`."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self.device)
        total = _SIZE()
        self._call("cuDeviceTotalMem_v2", ctypes.byref(total), self.device)
        version = self._integer("cuDriverGetVersion")
        capability = [self._integer("cuDeviceGetAttribute", which, self.device) for which in (MAJOR, MINOR)]
        return {
            "gpu": name.value.decode(errors="replace"),
            "compute_capability": ".".join(map(str, capability)),
            "memory_bytes": total.value,
            "cuda": f"{version // 1000}.{version % 1000 // 10}",
            "driver": driver_version(),
        }

    def used_bytes(self) -> int:
        """The GPU's memory that is in use, by this process and all others, as the driver tells it."""
        free, total = _SIZE(), _SIZE()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return total.value - free.value

    def allocate(self, size: int) -> int:
        """The address of at least `size` bytes on the GPU."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), max(size, 1))
        return address.value

    def release(self, address: int) -> None:
        """Give memory of the GPU back."""
        self._call("cuMemFree_v2", address)

    def allocate_host(self, size: int) -> int:
        """The address of at least `size` bytes of pinned memory, which the GPU copies from and to at full speed."""
        return self._handle("cuMemAllocHost_v2", max(size, 1))

    def release_host(self, address: int) -> None:
        """Give such memory back."""
        self._call("cuMemFreeHost", address)

    def to_device(self, device: int, host: int, size: int) -> None:
        """Begin a copy to the GPU on the stream."""
        self._call("cuMemcpyHtoDAsync_v2", device, host, size, self.stream)

    def to_host(self, host: int, device: int, size: int) -> None:
        """Begin a copy from the GPU on the stream."""
        self._call("cuMemcpyDtoHAsync_v2", host, device, size, self.stream)

    def synchronize(self) -> None:
        """Wait for everything on the stream. Raises CudaError if any of it failed."""
        self._call("cuStreamSynchronize", self.stream)

    @contextlib.contextmanager
    def timed(self) -> Iterator[list[float]]:
        """Times what is put on the stream: the list that it gives holds the milliseconds once the block has ended."""
        found: list[float] = []
        self._call("cuEventRecord", self._before, self.stream)
        yield found
        self._call("cuEventRecord", self._after, self.stream)
        self._call("cuEventSynchronize", self._after)
        milliseconds = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(milliseconds), self._before, self._after)
        found.append(milliseconds.value)

    def begin_capture(self) -> None:
        """From here on what is put on the stream is noted and not done."""
        self._call("cuStreamBeginCapture_v2", self.stream, THREAD_LOCAL)

    def end_capture(self) -> int:
        """The noted work as a graph that can be launched again and again. Raises CudaError if it cannot be one."""
        graph = _POINTER()
        self._call("cuStreamEndCapture", self.stream, ctypes.byref(graph))
        if not graph.value:
            raise CudaError("nothing was captured", -1)
        try:
            return self._handle("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, graph: int) -> None:
        """Put a graph's work on the stream."""
        self._call("cuGraphLaunch", graph, self.stream)

    def release_graph(self, graph: int) -> None:
        """Give a graph back."""
        self._call("cuGraphExecDestroy", graph)

    def _integer(self, function: str, *arguments: Any) -> int:
        """What a function writes into its first argument, an int."""
        value = ctypes.c_int()
        self._call(function, ctypes.byref(value), *arguments)
        return value.value

    def _handle(self, function: str, *arguments: Any) -> int:
        """What a function writes into its first argument, a pointer."""
        value = _POINTER()
        self._call(function, ctypes.byref(value), *arguments)
        return value.value or 0

    def _call(self, function: str, *arguments: Any) -> None:
        code = getattr(self.library, function)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(code, ctypes.byref(text))
            reason = text.value.decode(errors="replace") if text.value else "unknown error"
            raise CudaError(f"{function}: {reason} (CUDA error {code})", code)


def driver_version() -> str | None:
    """The version of NVIDIA's driver, as Linux tells it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found.group(1) if found else None
