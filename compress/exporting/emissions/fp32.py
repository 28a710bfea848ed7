"""The float graph: quantization removed, with the weights that the integers stand for."""

from __future__ import annotations

from onnx import ModelProto

from compress.exporting.canonical import split


def emit(canonical: ModelProto) -> ModelProto:
    """The float graph of a canonical one."""
    return split(canonical)[0]
