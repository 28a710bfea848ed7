"""From the canonical graph to one that a runtime's integer kernels take whole: the same numbers, fewer operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper

from compress.exporting.canonical import same_scale, scale_of
from compress.exporting.emissions.floats import keep_float_layers
from compress.exporting.emissions.one_sided import use_whole_range
from compress.exporting.graph import Graph, attribute, nested

MOVES = frozenset(
    {"Concat", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Squeeze", "Transpose"}
    | {"Unsqueeze"}
)
"""Operators that give integers for integers, value by value: they need no scale at all."""
BIAS_LIMIT = 2.0**30


def rewrite(proto: ModelProto, *, unsigned: bool, reshape: Sequence[Callable[[Graph], None]] = ()) -> ModelProto:
    """A graph with activations as uint8 or int8, in which what moves values moves integers.

    0. Tensors that are never negative use the whole grid, if they used half of it.
    1. DequantizeLinear sinks behind operators that only move values.
    2. A QuantizeLinear right behind it vanishes.
    3. A relu or clip vanishes where the quantization behind it clips as much.
    4. Biases of int8 layers become int32.
    5. What the functions of `reshape` do to the integer graph.
    6. Each int8 operator reads a DequantizeLinear of its own, as fusions expect.
    7. Layers that are to stay in float are parted from it, so that the runtime leaves them alone.
    """
    result = ModelProto()
    result.CopyFrom(proto)
    graph = Graph(result.graph)
    use_whole_range(graph)
    while _sink_once(graph) or _cancel_once(graph):
        pass
    graph.drop_unused()
    _fold_rectifiers(graph)
    if unsigned:
        _make_unsigned(graph)
    _round_biases(graph)
    for change in reshape:
        change(graph)
    _give_each_its_own(graph)
    keep_float_layers(graph)
    graph.write()
    return result


def _activation_dequantize(graph: Graph, node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear" and node.input[0] not in graph.arrays


def _sink_once(graph: Graph) -> bool:
    writers = graph.writers()
    for node in graph.nodes:
        if not _moves(graph, node):
            continue
        data = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        sources = [writers.get(name) for name in data]
        if not all(_activation_dequantize(graph, source) for source in sources):
            continue
        found = [source for source in sources if source is not None]
        if not all(same_scale(graph, found[0], source) for source in found):
            continue
        _sink(graph, node, found)
        return True
    return False


def _moves(graph: Graph, node: NodeProto) -> bool:
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", b"nearest") == b"nearest")
    if node.op_type == "Pad":
        value = graph.arrays.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.float32(0)
        return attribute(node, "mode", b"constant") == b"constant" and value is not None and not value.any()
    return node.op_type in MOVES and len(node.output) == 1


def _sink(graph: Graph, node: NodeProto, sources: list[NodeProto]) -> None:
    """Let `node` move the integers behind `sources`, and dequantize what it writes."""
    first = sources[0]
    for i, source in enumerate(sources):
        node.input[i] = source.input[0]
    if node.op_type == "Pad":
        while len(node.input) < 3:
            node.input.append("")
        node.input[2] = first.input[2]
    output = node.output[0]
    node.output[0] = f"{output}_integers"
    name = f"{node.name}_dequantize"
    behind = helper.make_node("DequantizeLinear", [node.output[0], *first.input[1:3]], [output], name)
    graph.nodes.insert(_position(graph, node) + 1, behind)


def _position(graph: Graph, node: NodeProto) -> int:
    return next(i for i, item in enumerate(graph.nodes) if item is node)


def _cancel_once(graph: Graph) -> bool:
    """Quantizing what was dequantized with the same scale gives the same integers."""
    writers = graph.writers()
    for node in graph.nodes:
        source = writers.get(node.input[0])
        if node.op_type == "QuantizeLinear" and _activation_dequantize(graph, source):
            assert source is not None
            if same_scale(graph, node, source):
                graph.rename_reads(node.output[0], source.input[0])
                graph.nodes.remove(node)
                return True
    return False


def _fold_rectifiers(graph: Graph) -> None:
    readers, writers = graph.readers(), graph.writers()
    for node in list(graph.nodes):
        if node.op_type not in ("Relu", "Clip") or node.output[0] in graph.outputs:
            continue
        behind = readers[node.output[0]]
        if behind and all(item.op_type == "QuantizeLinear" and _clips_as_much(graph, node, item) for item in behind):
            if node.input[0] not in writers:
                continue
            graph.rename_reads(node.output[0], node.input[0])
            graph.nodes.remove(node)
            readers, writers = graph.readers(), graph.writers()


def _clips_as_much(graph: Graph, node: NodeProto, quantize: NodeProto) -> bool:
    scale = scale_of(graph, quantize)
    limits = np.iinfo(scale.zero_point.dtype)
    lowest, highest = ((limit - int(scale.zero_point)) * scale.scale for limit in (limits.min, limits.max))
    low: Any = np.float32(0)
    high: Any = np.float32(np.inf)
    if node.op_type == "Clip":
        low, high = (
            graph.arrays.get(name, default) if name else default
            for name, default in zip([*node.input[1:], "", ""], (np.float32(-np.inf), np.float32(np.inf)), strict=False)
        )
    return bool(lowest >= low and highest <= high)


def _make_unsigned(graph: Graph) -> None:
    """int8 with zero point z and uint8 with zero point z + 128 are the same numbers."""
    shifted: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear" or _activation_dequantize(graph, node):
            name = node.input[2]
            if name not in shifted:
                array = graph.arrays[name]
                assert array.dtype == np.int8
                shifted[name] = f"{name}_unsigned"
                graph.add_array(shifted[name], (array.astype(np.int16) + 128).astype(np.uint8))
    for old, new in shifted.items():
        graph.rename_reads(old, new)


def _round_biases(graph: Graph) -> None:
    """Bias of a convolution or Gemm as int32 with scale (input scale * weight scale), which integer kernels add."""
    writers = graph.writers()
    for node in list(graph.nodes):
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or node.input[2] not in graph.arrays:
            continue
        data, weight = writers.get(node.input[0]), writers.get(node.input[1])
        if not _activation_dequantize(graph, data) or weight is None or weight.op_type != "DequantizeLinear":
            continue
        assert data is not None
        bias = graph.arrays[node.input[2]]
        _widen_weight_scales(graph, weight, scale_of(graph, data).scale, bias)
        scale = (scale_of(graph, data).scale * scale_of(graph, weight).scale).astype(np.float32)
        name = f"{node.name}_bias"
        rounded = np.rint(bias.astype(np.float64) / scale.astype(np.float64)).astype(np.int32)
        inputs = [
            graph.add_array(f"{name}_quantized", rounded),
            graph.add_array(f"{name}_scale", scale),
            graph.add_array(f"{name}_zero_point", np.zeros(scale.shape, np.int32)),
        ]
        node.input[2] = name
        behind = helper.make_node("DequantizeLinear", inputs, [name], f"{name}_dequantize", axis=0)
        graph.nodes.insert(_position(graph, node), behind)


def _widen_weight_scales(graph: Graph, weight: NodeProto, input_scale: np.ndarray, bias: np.ndarray) -> None:
    """A channel whose weights are next to nothing beside its bias gets a coarser scale, so that the bias fits int32."""
    scale = scale_of(graph, weight)
    least = np.abs(bias) / (input_scale * BIAS_LIMIT)
    if not (scale.scale < least).any():
        return
    wider = np.maximum(scale.scale, least).astype(np.float32)
    integers = graph.arrays[weight.input[0]]
    shape = [1] * integers.ndim
    shape[scale.axis or 0] = -1
    rounded = np.rint(integers * (scale.scale / wider).reshape(shape)).astype(np.int8)
    for i, (suffix, array) in enumerate((("", rounded), ("_scale", wider))):
        weight.input[i] = graph.add_array(f"{weight.name}_widened{suffix}", array)


def _give_each_its_own(graph: Graph) -> None:
    """Copy a DequantizeLinear for each int8 operator that reads it; float ones share one, as their fusions expect."""
    readers = graph.readers()
    for node in list(graph.nodes):
        if node.op_type != "DequantizeLinear":
            continue
        mine = readers[node.output[0]]
        floats = [reader for reader in mine if not _runs_in_integers(reader, readers)]
        integers = [[reader] for reader in mine if _runs_in_integers(reader, readers)]
        groups = ([floats] if floats or node.output[0] in graph.outputs else []) + integers
        for i, group in enumerate(groups[1:], start=1):
            copied = NodeProto()
            copied.CopyFrom(node)
            copied.name, copied.output[0] = f"{node.name}_{i}", f"{node.output[0]}_{i}"
            for reader in group:
                position = next(k for k, name in enumerate(reader.input) if name == node.output[0])
                reader.input[position] = copied.output[0]
            graph.nodes.insert(_position(graph, node) + 1, copied)


def _runs_in_integers(node: NodeProto, readers: dict[str, list[NodeProto]]) -> bool:
    """Whether an operator that reads dequantized values is one that a runtime fuses with their quantization."""
    if node.op_type in ("Conv", "Gemm", "MatMul"):
        return True
    if nested(node):
        return False
    behind = [reader for name in node.output for reader in readers[name]]
    return bool(behind) and all(reader.op_type == "QuantizeLinear" for reader in behind)
