"""What a target with `runtime: tensorrt` implies, and what does not go with it. Light: read to validate a pipeline."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from typing import Any

RUNTIME = "tensorrt"
EMISSIONS = ("fp32", "fp16", "bf16", "tensorrt")
"""Files that TensorRT reads; others hold operators of ONNX Runtime, or zero points."""
AUTOMATIC = ("fp32", "tensorrt")
"""The emissions worth making, the float one first. A quantized network computes in fp16 where it does not in int8."""
IMPLIED = {"provider": "cuda", "warmup_seconds": 0.2, "seconds": 0.5, "throughput_seconds": 0.5}
"""What is meant where nothing is said: as trtexec, 200 ms of warm-up, and in 8 rounds together more than its 3 s."""
OWN = {"workspace_mib": None, "timing_cache": True}
"""Settings that only TensorRT has, and their defaults."""
BELONGS_TO = ("gpu", "compute_capability", "cuda", "tensorrt")
"""What an engine belongs to, as the program for TensorRT tells it."""
MAJOR = 11
INSTALL = f"pip install 'tensorrt=={MAJOR}.*'"


def implied(runtime: str, given: Collection[str]) -> dict[str, Any]:
    """What a runtime implies of those settings that were not given."""
    return {name: value for name, value in IMPLIED.items() if runtime == RUNTIME and name not in given}


def faults(
    settings: Mapping[str, Any], also_threads: Sequence[int], emit: str | Sequence[str]
) -> list[tuple[str, str]]:
    """(setting, what is wrong) of a target, whose other settings are given as plain data."""
    if settings["runtime"] != RUNTIME:
        return [
            (name, "belongs to a target with `runtime: tensorrt`")
            for name, default in OWN.items()
            if settings[name] != default
        ]
    found = []
    if settings["provider"] != "cuda":
        found.append(("provider", "TensorRT computes on NVIDIA's GPUs: leave it out, or give `cuda`"))
    if settings["kind"] == "adb":
        found.append(("runtime", "TensorRT runs on this machine or behind ssh, and not on Android"))
    if also_threads:
        found.append(("also_threads", "an engine runs on the GPU: its time does not depend on threads"))
    if emit != "auto" and (wrong := [name for name in emit if name not in EMISSIONS]):
        found.append(("emit", f"TensorRT does not run '{wrong[0]}': choose from {', '.join(EMISSIONS)}"))
    if settings["kind"] == "local" and importlib.util.find_spec("tensorrt") is None:
        found.append(("runtime", f"TensorRT is not installed here: {INSTALL} (it needs an NVIDIA GPU with CUDA 13)"))
    return found
