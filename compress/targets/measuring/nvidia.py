"""What NVIDIA's driver tells of a GPU, by its library NVML."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

CUDA = "CUDAExecutionProvider"
NAME_BYTES = 96
"""NVML_DEVICE_NAME_V2_BUFFER_SIZE."""


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

    def name(self) -> str:
        """What the GPU is called, such as `NVIDIA H200`."""
        text = self._c.create_string_buffer(NAME_BYTES)
        self._call("nvmlDeviceGetName", self._gpu, text, NAME_BYTES)
        return str(text.value.decode(errors="replace"))

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
    if provider not in (CUDA, "TensorrtExecutionProvider"):
        return None
    try:
        return Nvml()
    except (OSError, AttributeError):
        return None


def gpu_of(provider: str) -> dict[str, str]:
    """`gpu`, what the GPU is called that `provider` computes on; empty if it is none, or no driver tells."""
    nvml = open_nvml(provider)
    if nvml is not None:
        with contextlib.suppress(OSError, AttributeError):
            return {"gpu": nvml.name()}
    return {}
