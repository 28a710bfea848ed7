"""For ONNX Runtime on x86 processors with VNNI: uint8 activations, int8 weights.

ONNX Runtime on x86 fuses a quantized graph fully only with unsigned activations, and its fast convolution kernels want
input channels in fours.
"""

from __future__ import annotations

from onnx import ModelProto

from compress.exporting.emissions.integer import rewrite
from compress.exporting.emissions.shapes import merge_shortcuts, pad_input_channels


def emit(canonical: ModelProto) -> ModelProto:
    """The graph to deploy, of the same numbers as the canonical one."""
    return rewrite(canonical, unsigned=True, reshape=(merge_shortcuts, pad_input_channels))
