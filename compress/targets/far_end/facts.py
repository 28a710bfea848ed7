"""What a device tells of itself when it is greeted."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from pathlib import Path
from typing import Any

from compress.targets.measuring.conditions import conditions
from compress.targets.measuring.machine import available_cores, machine
from compress.targets.measuring.nvidia import CUDA, gpu_of
from compress.targets.measuring.system import read

RUNTIMES = ("onnxruntime-gpu", "onnxruntime", "onnxruntime-qnn", "onnxruntime-openvino")


def facts(folder: Path) -> dict[str, Any]:
    """What is cheap to tell: processor, GPU, versions (found without imports), cores, free disk, conditions."""
    found = machine()
    cpuinfo = read("/proc/cpuinfo")
    return {
        "machine": found,
        "conditions": conditions(),
        "usable_cores": available_cores(),
        "versions": {"python": platform.python_version(), "numpy": _version("numpy"), "onnxruntime": _runtime()},
        "free_bytes": shutil.disk_usage(str(folder)).free,
        "gpu": gpu_of(CUDA).get("gpu"),
        "emulated": found["architecture"].startswith(("aarch64", "arm")) and "vendor_id" in cpuinfo,
    }


def _version(name: str) -> str | None:
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _runtime() -> str | None:
    """ONNX Runtime as `distribution version`; None if it cannot be imported."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    for name in RUNTIMES:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "onnxruntime unknown"
