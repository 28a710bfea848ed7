"""For ONNX Runtime on x86 processors with VNNI: uint8 activations, int8 weights.

ONNX Runtime on x86 fuses a quantized graph fully only with unsigned activations, and its fast convolution kernels want
input channels in fours.
"""

from __future__ import annotations

from onnx import ModelProto

from compress.exporting.emissions.attention import fuse_attention
from compress.exporting.emissions.gates import add_hard_sigmoids, widen_gates
from compress.exporting.emissions.integer import rewrite
from compress.exporting.emissions.linear import fuse_linear
from compress.exporting.emissions.rows import compute_rows_that_are_read
from compress.exporting.emissions.shapes import merge_shortcuts, pad_input_channels, shuffle_by_convolution
from compress.exporting.emissions.transposed import convolve_transposed

RESHAPED = (merge_shortcuts, shuffle_by_convolution, pad_input_channels, add_hard_sigmoids)


def emit(canonical: ModelProto) -> ModelProto:
    """The graph to deploy, of the same numbers as the canonical one."""
    proto = rewrite(convolve_transposed(canonical), unsigned=True, reshape=RESHAPED)
    fuse_attention(proto)
    compute_rows_that_are_read(proto)
    fuse_linear(proto)
    widen_gates(proto)
    return proto
