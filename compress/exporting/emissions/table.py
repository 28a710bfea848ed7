"""The table of emissions: name in YAML -> the function that makes it from the canonical graph."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from compress.exporting.emissions import fp32, ort_arm, ort_x86

EMISSIONS: dict[str, Callable[[ModelProto], ModelProto]] = {
    "fp32": fp32.emit,
    "ort-x86": ort_x86.emit,
    "ort-arm": ort_arm.emit,
}
