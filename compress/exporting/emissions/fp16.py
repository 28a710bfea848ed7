"""The float graph in float16: half the size, and what GPUs and Arm processors with FP16 arithmetic compute fast."""

from __future__ import annotations

from onnx import ModelProto, TensorProto

from compress.exporting.canonical import split
from compress.exporting.emissions.narrow import narrow


def emit(graph: ModelProto) -> ModelProto:
    """The float16 graph of a float or canonical one; its inputs and outputs are float32."""
    return narrow(split(graph)[0], TensorProto.FLOAT16)
