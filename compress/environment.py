"""What this machine is: processor and its int8 features, memory, GPU, operating system, library versions. Light.

`compress doctor` prints it and every report holds it, so it tells no host name, user or path.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from compress.targets.measuring.conditions import conditions
from compress.targets.measuring.machine import available_cores, machine

LIBRARIES = (
    "compress-toolkit", "numpy", "torch", "accelerate", "onnx", "onnxscript", "onnxruntime",
    "onnxruntime-gpu", "transformers", "datasets", "timm", "torchvision", "scikit-learn", "pyarrow",
    "optimum", "tensorrt",
)  # fmt: skip
"""Distributions whose version may change what comes out."""
_GPU_FIELDS = {
    "name": "name",
    "memory.total": "memory_mib",
    "compute_cap": "compute_capability",
    "driver_version": "driver",
}


def environment() -> dict[str, Any]:
    """Everything that is known of this machine, as plain data; what cannot be told is None or absent."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "processor": {**machine(), "usable_cores": len(available_cores())},
        "memory_bytes": memory_bytes(),
        "gpus": gpus(),
        "conditions": conditions(),
        "libraries": libraries(),
    }


def libraries() -> dict[str, str]:
    """The installed versions of the libraries that matter, found without importing them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def memory_bytes() -> int | None:
    """The machine's memory, or the smaller limit that a container sets."""
    known = [limit for limit in (_physical_memory_bytes(), _container_limit_bytes()) if limit is not None]
    return min(known, default=None)


def _physical_memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        import psutil

        return int(psutil.virtual_memory().total)


def _container_limit_bytes(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The memory limit of this control group (version 2, then 1), if there is one."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        return int(text) if re.fullmatch(r"\d{1,15}", text) else None  # "max", or version 1's huge number: none
    return None


def gpus() -> list[dict[str, Any]]:
    """The NVIDIA GPUs that nvidia-smi tells of: name, memory, compute capability, driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parsed_gpus(said.stdout) if said.returncode == 0 else []


def parsed_gpus(text: str) -> list[dict[str, Any]]:
    """nvidia-smi's lines of comma-separated fields as plain data."""
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines() if line.strip()]
    return [
        {
            ours: int(value) if ours == "memory_mib" and value.isdigit() else value
            for ours, value in zip(_GPU_FIELDS.values(), row, strict=True)
        }
        for row in rows
        if len(row) == len(_GPU_FIELDS)
    ]
