"""For ONNX Runtime on Arm processors with the dot-product instructions: int8 activations and weights."""

from __future__ import annotations

from onnx import ModelProto

from compress.exporting.emissions.integer import rewrite
from compress.exporting.emissions.shapes import merge_shortcuts, pad_input_channels


def emit(canonical: ModelProto) -> ModelProto:
    """The graph to deploy, of the same numbers as the canonical one."""
    return rewrite(canonical, unsigned=False, reshape=(merge_shortcuts, pad_input_channels))
