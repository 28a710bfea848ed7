"""Rules for files that were rounded without calibration: MatMulNBits, and layers whose inputs get scales as they come.

What ONNX Runtime's kernels demand was read in its source (contrib_ops/cpu/quantization/matmul_nbits_helper.h) and its
docs/ContribOperators.md.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from compress.exporting.graph import attribute
from compress.exporting.lint.finding import Check
from compress.exporting.lint.structure import Faults
from compress.exporting.lint.view import View

PRODUCTS, ROWS = "MatMulNBits", "GatherBlockQuantized"
MICROSOFT = "com.microsoft"
LEAST_BLOCK = 16
INT8_LEVEL = 4


def microsoft_opset(view: View) -> Faults:
    """Operators of com.microsoft in a file that does not import that domain, or in a version that is not 1."""
    if not view.outermost:
        return
    versions = [item.version for item in view.model.opset_import if item.domain == MICROSOFT]
    if versions != [1] and any(view.of(PRODUCTS, ROWS)):
        found = f"in version {versions[0]}" if versions else "in no version"
        yield "the file", f"imports {MICROSOFT} {found}"


def bits_of(wanted: int) -> Check:
    """Products whose weights have another number of bits than the file's."""

    def check(view: View) -> Faults:
        for node in view.of(PRODUCTS, ROWS):
            bits = attribute(node, "bits", 4)
            if bits != wanted:
                yield view.label(node), f"its weights have {bits} bits and not {wanted}"

    return check


def block_size(view: View) -> Faults:
    """Blocks that the kernels refuse: no power of two, or less than 16 inputs."""
    for node in view.of(PRODUCTS, ROWS):
        size = attribute(node, "block_size", 0 if node.op_type == PRODUCTS else 128)
        if size < LEAST_BLOCK or size & (size - 1):
            yield view.label(node), f"has blocks of {size} inputs"


def packed_shape(view: View) -> Faults:
    """Integers, scales or zero points that are not as many as the sizes of the product say, or not constants."""
    for node in view.of(PRODUCTS):
        wanted = _shapes(node)
        for i, (what, kind, shapes) in enumerate(wanted, start=1):
            name = node.input[i] if len(node.input) > i else ""
            if not name and i > 2:
                continue
            array = view.arrays.get(name)
            if array is None:
                yield view.label(node), f"its {what} are no constant"
            elif array.dtype.kind not in kind or array.shape not in shapes:
                told = " or ".join(str(list(shape)) for shape in shapes)
                yield view.label(node), f"its {what} are {array.dtype} {list(array.shape)} and not {told}"


def _shapes(node: NodeProto) -> list[tuple[str, str, tuple[tuple[int, ...], ...]]]:
    """What a product reads as weights: what it is, the kinds of its type, the shapes that it may have."""
    inputs, outputs, bits = (attribute(node, name, default) for name, default in (("K", 0), ("N", 0), ("bits", 4)))
    size = max(attribute(node, "block_size", 0), 1)
    blocks = -(-inputs // size)
    row = -(-blocks * bits // 8)
    return [
        ("integers", "u", ((outputs, blocks, size * bits // 8),)),
        ("scales", "f", ((outputs, blocks), (outputs * blocks,))),
        ("zero points", "u", ((outputs, row), (outputs * row,))),
    ]


def block_scales(view: View) -> Faults:
    """Scales of blocks that are zero, infinite or no number. Negative ones are right."""
    for node in view.of(PRODUCTS, ROWS):
        scales = view.arrays.get(node.input[2])
        if scales is not None and not (np.isfinite(scales) & (scales != 0)).all():
            yield view.label(node), "has a scale that is zero, infinite or no number"


def int8_level(view: View) -> Faults:
    """Products whose kernel may not compute in int8."""
    for node in view.of(PRODUCTS):
        level = attribute(node, "accuracy_level", 0)
        if level != INT8_LEVEL:
            yield view.label(node), f"has the accuracy level {level}: it is computed in float32"


def holds(*kinds: str) -> Check:
    """A file without a layer of its kind."""

    def check(view: View) -> Faults:
        if view.outermost and not any(view.of(*kinds)):
            yield "the file", f"holds no {' or '.join(kinds)}"

    return check


def dynamic_inputs(view: View) -> Faults:
    """Products of integers whose first input, or its zero point, is not what one DynamicQuantizeLinear writes."""
    for node in view.of("MatMulInteger"):
        writer = view.writers.get(node.input[0])
        if writer is None or writer.op_type != "DynamicQuantizeLinear":
            yield view.label(node), "reads integers that no DynamicQuantizeLinear writes"
        elif len(node.input) < 3 or node.input[2] != writer.output[2]:
            yield view.label(node), f"does not read the zero point that {view.label(writer)} writes"


def integer_weights(view: View) -> Faults:
    """Products of integers whose weights are not a constant of int8 with zero point 0."""
    for node in view.of("MatMulInteger"):
        weights = view.arrays.get(node.input[1])
        zero = node.input[3] if len(node.input) > 3 else ""
        zero_point = view.arrays.get(zero) if zero else np.zeros(1, np.int8)
        if weights is None or weights.dtype != np.int8:
            yield view.label(node), "its weights are no constant of int8"
        elif zero_point is None or zero_point.any():
            yield view.label(node), "its weights have a zero point"
