"""Which tensors of two ONNX graphs are the same, and on which grids their integers lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from compress.exporting.canonical import Scale
from compress.exporting.difference import Step
from compress.exporting.emissions.integer import MOVES
from compress.exporting.graph import Array, Graph, attribute
from compress.exporting.onnx_values import PLAIN, Coding, OnnxValues


@dataclass(frozen=True)
class Pair:
    """A tensor of the file and what the reference calls it."""

    tensor: str
    source: str
    step: Step = None
    coding: Coding = PLAIN

    def cut(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape in the file without what only the file has."""
        margin = self.coding.margin
        return tuple(size - extra for size, extra in zip(shape, margin, strict=True)) if any(margin) else shape


def shared(ours: OnnxValues, theirs: OnnxValues) -> list[Pair]:
    """Tensors of the same name; dequantized copies of a shared tensor stand for its values."""
    our_grids, their_grids = quantized(ours.graph), quantized(theirs.graph)
    before = {node.input[0]: node for node in ours.nodes if node.op_type == "QuantizeLinear"}
    pairs: dict[str, Pair] = {}
    for node in theirs.nodes:
        if node.op_type in ("Constant", "Shape"):
            continue
        for tensor in node.output:
            shared = our_grids.get(tensor)
            if node.op_type == "DequantizeLinear" and node.input[0] in pairs and node.input[0] in our_grids:
                source = pairs[node.input[0]]
                pairs[tensor] = Pair(tensor, source.source, source.step)
            elif shared is not None and shared.axis is None:
                grid = agreed(theirs.graph, tensor, their_grids.get(tensor), shared)
                pairs[tensor] = Pair(tensor, tensor, float(shared.scale), coding_of(grid))
            elif tensor in ours and tensor not in ours.inputs:
                pairs[tensor] = _float_pair(ours, theirs, node, tensor, before)
    for pair in _constants(ours, theirs):
        pairs.setdefault(pair.tensor, pair)
    return list(pairs.values())


def _constants(ours: OnnxValues, theirs: OnnxValues) -> Iterator[Pair]:
    """Float constants of the reference that the file holds as integers, read at one place of operators of one name."""
    named = {node.name: node for node in ours.nodes if node.name}
    for node in theirs.nodes:
        same = named.get(node.name)
        if same is None or same.op_type != node.op_type:
            continue
        for source, tensor in zip(same.input, node.input, strict=False):
            writer, expected = theirs.writers.get(tensor), ours.graph.arrays.get(source)
            if writer is None or writer.op_type != "DequantizeLinear" or expected is None:
                continue
            grid, integers = grid_of(theirs.graph, writer), theirs.graph.arrays.get(writer.input[0])
            if grid is not None and integers is not None:
                margin = margin_of(expected.shape, integers.shape)
                yield Pair(tensor, source, bias_step(expected, grid), Coding(margin=margin))


def _float_pair(
    ours: OnnxValues, theirs: OnnxValues, node: NodeProto, tensor: str, before: dict[str, NodeProto]
) -> Pair:
    step: Step = None
    coding = PLAIN
    quantize = before.get(tensor)
    if quantize is not None:
        scale = grid_of(ours.graph, quantize)
        step = None if scale is None or scale.axis is not None else float(scale.scale)
    if node.op_type == "DequantizeLinear":
        constant, integers = _constant(ours, tensor), theirs.graph.arrays.get(node.input[0])
        if constant is not None and integers is not None:
            original, grid = constant
            step = constant_step(grid_of(theirs.graph, node), grid, original.ndim)
            coding = Coding(margin=margin_of(original.shape, integers.shape))
        elif integers is None:
            coding = Coding(margin=padding_of(theirs, node))
    if step is None:
        moved = behind_moves(ours.graph, tensor)
        grid = grid_of(ours.graph, moved) if moved is not None and moved.op_type == "DequantizeLinear" else None
        step = None if grid is None or grid.axis is not None else float(grid.scale)
    return Pair(tensor, tensor, step, coding)


def _constant(ours: OnnxValues, tensor: str) -> tuple[Array, Scale | None] | None:
    """A constant of the reference, as floats or as integers and their scale; None if the tensor is computed."""
    writer = ours.writers.get(tensor)
    stored = tensor if writer is None else writer.input[0] if writer.op_type == "DequantizeLinear" else ""
    if stored not in ours.graph.arrays:
        return None
    return ours.graph.arrays[stored], None if writer is None else grid_of(ours.graph, writer)


def constant_step(file: Scale | None, reference: Scale | None, dimensions: int) -> Array | None:
    """The coarser of both scales, in the shape that fits a constant of so many dimensions."""
    if file is None or reference is None or file.scale.shape != reference.scale.shape:
        return None
    step = np.maximum(file.scale, reference.scale)
    return step.reshape([-1 if i == reference.axis else 1 for i in range(dimensions)]) if step.ndim else step


def bias_step(expected: Array, file: Scale) -> float:
    """A 127th of the largest value, or the file's scale if that is coarser."""
    return max(float(np.abs(expected).max()) / 127, float(file.scale.min()), 1e-30)


def margin_of(shape: Sequence[int], wider: Sequence[int]) -> tuple[int, ...]:
    """What `wider` has more at the end of each axis, if it has."""
    if len(shape) != len(wider) or any(b < a for a, b in zip(shape, wider, strict=True)):
        return ()
    return tuple(b - a for a, b in zip(shape, wider, strict=True))


def padding_of(file: OnnxValues, dequantize: NodeProto) -> tuple[int, ...]:
    """The margin of what a DequantizeLinear writes behind a padding that an emission put there."""
    pad = file.writers.get(dequantize.input[0])
    if pad is None or pad.op_type != "Pad" or not dequantize.input[0].endswith("_padded"):
        return ()
    pads = file.graph.arrays[pad.input[1]]
    return tuple(int(extra) for extra in pads[len(pads) // 2 :])


def quantized(graph: Graph) -> dict[str, Scale]:
    """Activation tensors of 8 bits -> the scale of the QuantizeLinear that their values come from."""
    found: dict[str, Scale] = {}
    for node in graph.nodes:
        grid = grid_of(graph, node) if node.op_type == "QuantizeLinear" else None
        if node.op_type in MOVES:
            grid = found.get(node.input[0])
        if grid is not None:
            found[node.output[0]] = grid
    return found


def grid_of(graph: Graph, node: NodeProto) -> Scale | None:
    """The scale of a QuantizeLinear or DequantizeLinear; None if it is computed."""
    names = list(node.input[1:])
    if any(name and name not in graph.arrays for name in names):
        return None
    scale = graph.arrays[names[0]]
    constant = graph.arrays.get(node.input[0])
    dtype = np.uint8 if constant is None else constant.dtype
    zero_point = graph.arrays[names[1]] if len(names) > 1 and names[1] else np.zeros(scale.shape, dtype)
    if constant is None and scale.size == 1:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    return Scale(scale, zero_point, attribute(node, "axis", 1) if scale.ndim else None)


def coding_of(scale: Scale) -> Coding:
    """The coding of a tensor with one scale."""
    return Coding(float(scale.scale), int(scale.zero_point), scale.zero_point.dtype)


def agreed(graph: Graph, tensor: str, own: Scale | None, reference: Scale) -> Scale:
    """How to read a file's integers: on its own grid, if what dequantizes them has the same, else on the reference's.

    An emission may put the same numbers on another grid; a fault in one operator is none of that.
    """
    readers = [grid for node in dequantizers(graph, tensor) if (grid := grid_of(graph, node)) is not None]
    grids = [*([] if own is None else [own]), *readers]
    dtype = grids[0].zero_point.dtype if grids else reference.zero_point.dtype
    if own is not None and all(equal(own, grid) for grid in readers):
        return own
    shift = int(np.iinfo(dtype).min) - int(np.iinfo(reference.zero_point.dtype).min)
    return Scale(reference.scale, np.asarray(int(reference.zero_point) + shift, dtype), None)


def dequantizers(graph: Graph, tensor: str) -> list[NodeProto]:
    """Every DequantizeLinear that reads a tensor, directly or behind operators that move values."""
    readers = graph.readers()
    found, pending = [], [tensor]
    while pending:
        for node in readers[pending.pop()]:
            if node.op_type == "DequantizeLinear":
                found.append(node)
            elif node.op_type in MOVES:
                pending += node.output
    return found


def equal(one: Scale, other: Scale) -> bool:
    """Whether two grids are one."""
    return bool(np.array_equal(one.scale, other.scale) and one.zero_point == other.zero_point)


def behind_moves(graph: Graph, tensor: str) -> NodeProto | None:
    """What writes the values of a tensor, before operators that only move them."""
    writers = graph.writers()
    source = writers.get(tensor)
    while source is not None and source.op_type in MOVES:
        source = writers.get(source.input[0])
    return source


def quantizer_of(graph: Graph, node: NodeProto) -> NodeProto | None:
    """The QuantizeLinear of what a DequantizeLinear reads; None for any other operator, or one of a constant."""
    if node.op_type != "DequantizeLinear":
        return None
    source = behind_moves(graph, node.input[0])
    return source if source is not None and source.op_type == "QuantizeLinear" else None
