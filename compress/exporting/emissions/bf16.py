"""The float graph in bfloat16: float32's range in half the size. ONNX Runtime's CPU provider cannot run it."""

from __future__ import annotations

from onnx import ModelProto, TensorProto

from compress.exporting.canonical import split
from compress.exporting.element_types import at_least
from compress.exporting.emissions.narrow import narrow

OPSET = 22
"""The first in which convolutions and pools may be bfloat16."""


def emit(graph: ModelProto) -> ModelProto:
    """The bfloat16 graph of a float or canonical one; its inputs and outputs are float32."""
    return narrow(at_least(split(graph)[0], OPSET), TensorProto.BFLOAT16)
