"""The table of emissions: name in YAML -> the function that makes it from the canonical graph."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from compress.exporting.emissions import (
    bf16,
    dynamic,
    fp16,
    fp32,
    ort_arm,
    ort_x86,
    ort_x86_avx2,
    tensorrt,
    weight_only,
)

EMISSIONS: dict[str, Callable[[ModelProto], ModelProto]] = {
    "fp32": fp32.emit,
    "fp16": fp16.emit,
    "bf16": bf16.emit,
    "ort-x86": ort_x86.emit,
    "ort-x86-avx2": ort_x86_avx2.emit,
    "ort-arm": ort_arm.emit,
    "tensorrt": tensorrt.emit,
    "ort-dynamic": dynamic.emit,
    "ort-weights8": weight_only.weights8,
    "ort-weights4": weight_only.weights4,
}
"""Those of `UNCALIBRATED_EMISSIONS` are made of float graphs (of a canonical one they round its float graph)."""
