"""A float ONNX graph with the places where it will be quantized: what all methods without training work on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from compress.errors import UsageError
from compress.exporting.graph import Graph, names, nested
from compress.quantization.onnx_graph import Layer, Types, read
from compress.quantization.operators import ROLES, Operator, Role
from compress.quantization.placement import Point, place

Array = NDArray[Any]
GridPoint = tuple[float, int]
"""Scale and zero point (signed) of an activation."""


@dataclass(frozen=True)
class Template:
    """`proto` is float; `layers` are those whose weights become int8, by the tensor that they write.

    `symmetric` is the grid without zero points.
    """

    proto: ModelProto
    points: tuple[Point, ...]
    layers: Mapping[str, Layer]
    operators: tuple[Operator, ...]
    integer: frozenset[str]
    symmetric: bool = False

    def source_group(self, layer: Layer) -> str | None:
        """The group of the point that a layer reads, directly or behind operators that only move values."""
        writers = {operator.output: operator for operator in self.operators}
        groups = {point.tensor: point.group for point in self.points}
        tensor = layer.data
        while tensor not in groups and tensor in writers and ROLES[writers[tensor].kind] is Role.MOVES:
            tensor = writers[tensor].inputs[0]
        return groups.get(tensor)

    @property
    def groups(self) -> dict[str, list[Point]]:
        """Points by the name of the scale that they share."""
        found: dict[str, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.group, []).append(point)
        return found

    def with_proto(self, proto: ModelProto) -> Template:
        """The same places in a graph of the same names with other weights."""
        return replace(self, proto=proto)


def template_of(proto: ModelProto, ignore: Sequence[str] = (), *, symmetric: bool = False) -> Template:
    """Place int8 in a float graph. `ignore` are globs of operator names that stay in float.

    `symmetric` is the grid without zero points.

    Raises:
        UsageError: Nothing in the graph can run in int8, or a glob matches no operator.
    """
    graph = Graph(proto.graph)
    operators, layers = read(graph, Types(proto), ignore)
    _check_globs(graph, ignore)
    placement = place(operators, symmetric=symmetric)
    found = {output: layer for output, layer in layers.items() if output in placement.integer}
    if layers and not found:
        raise UsageError("ignore: every layer of the graph is to stay in float")
    if not found:
        raise UsageError(_nothing_to_quantize(graph))
    return Template(proto, placement.points, found, tuple(operators), placement.integer, symmetric)


def _nothing_to_quantize(graph: Graph) -> str:
    if any(array.dtype.name in ("float16", "bfloat16") for array in graph.arrays.values()):
        return "the graph's weights are float16: give the float32 file that it was made from"
    bodies = sorted({node.op_type for node in graph.nodes if nested(node)})
    outside = f" outside of its {' and '.join(bodies)}, whose bodies stay in float" if bodies else ""
    return f"the graph has no convolution, linear layer or product with constant weights to quantize{outside}"


def without(template: Template, kept_float: frozenset[str]) -> Template:
    """The template with some operators, named by what they write, left in float."""
    operators = [
        Operator(o.output, o.kind, o.inputs, o.bounds, o.ignored or o.output in kept_float) for o in template.operators
    ]
    placement = place(operators, symmetric=template.symmetric)
    layers = {output: layer for output, layer in template.layers.items() if output in placement.integer}
    return replace(
        template,
        points=placement.points,
        layers=layers,
        operators=tuple(operators),
        integer=placement.integer,
    )


def _check_globs(graph: Graph, ignore: Sequence[str]) -> None:
    for glob in ignore:
        if not any(fnmatchcase(node.name, glob) for node in graph.nodes):
            first = ", ".join(node.name for node in graph.nodes[:8])
            raise UsageError(f"ignore: {glob!r} matches no operator; there are {first} ...")


@dataclass(frozen=True)
class QuantizedWeight:
    """`integers` int8 of the weight's shape; `scale` (output channels,) float32; on the layer's axis."""

    integers: Array
    scale: Array


def insert(template: Template, grid: Mapping[str, GridPoint], weights: Mapping[str, QuantizedWeight]) -> ModelProto:
    """The canonical graph: signed Q/DQ pairs at the template's points, int8 weights behind a DequantizeLinear.

    `grid` has the scale and zero point of each group, `weights` those of each layer by the tensor that it writes.
    """
    result = ModelProto()
    result.CopyFrom(template.proto)
    graph = Graph(result.graph)
    fresh, nodes, readers = _Fresh(graph), graph.writers(), graph.readers()
    operator_of = {layer.product: layer.output for layer in template.layers.values()}
    for point in template.points:
        behind = readers[point.tensor]
        if point.readers is not None:
            behind = [node for node in behind if point.readers & {operator_of.get(name, name) for name in node.output}]
        _insert_point(graph, point, grid[point.group], nodes.get(point.tensor), behind, fresh)
    for output, layer in template.layers.items():
        _insert_weight(graph, layer, weights[output], nodes[layer.product], fresh)
        group = template.source_group(layer)
        if group is not None and layer.bias is not None:
            step = grid[group][0] * weights[output].scale.astype(np.float64)
            _round_bias(graph, layer, step, [nodes[layer.product], nodes[layer.output]], fresh)
    graph.write()
    return result


class _Fresh:
    """Names that the float graph does not use, the same for the same wish."""

    def __init__(self, graph: Graph) -> None:
        self.taken = {name for node in graph.nodes for name in names(node)}

    def __call__(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        return name


def _insert_point(
    graph: Graph, point: Point, grid: GridPoint, writer: NodeProto | None, readers: Sequence[NodeProto], fresh: _Fresh
) -> None:
    tensor = point.tensor
    scale = [
        graph.add_array(fresh(f"{point.group}_scale"), np.asarray(grid[0], np.float32)),
        graph.add_array(fresh(f"{point.group}_zero_point"), np.asarray(grid[1], np.int8)),
    ]
    quantized, floats = fresh(f"{tensor}_quantized"), fresh(f"{tensor}_dequantized")
    source = tensor
    if tensor in graph.outputs and point.readers is None and writer is not None:  # the output keeps its name
        source = fresh(f"{tensor}_float")
        writer.output[list(writer.output).index(tensor)] = source
        floats = tensor
    graph.rename_reads(tensor, floats, readers)
    graph.nodes += [
        helper.make_node("QuantizeLinear", [source, *scale], [quantized], f"{tensor}_quantize"),
        helper.make_node("DequantizeLinear", [quantized, *scale], [floats], f"{tensor}_dequantize"),
    ]


def _insert_weight(graph: Graph, layer: Layer, found: QuantizedWeight, node: NodeProto, fresh: _Fresh) -> None:
    name = f"{layer.name}.{layer.weight}"
    constants = [
        graph.add_array(fresh(f"{name}_quantized"), found.integers),
        graph.add_array(fresh(f"{name}_scale"), found.scale),
        graph.add_array(fresh(f"{name}_zero_point"), np.zeros(found.scale.shape, np.int8)),
    ]
    floats = fresh(f"{name}_dequantized")
    graph.rename_reads(layer.weight, floats, [node])
    dequantize = helper.make_node("DequantizeLinear", constants, [floats], f"{layer.name}.dequantize", axis=layer.axis)
    graph.nodes.append(dequantize)


def _round_bias(graph: Graph, layer: Layer, step: Array, nodes: Sequence[NodeProto], fresh: _Fresh) -> None:
    """A bias of its own, rounded as integer kernels have it: to multiples of (scale of the input * of the weights)."""
    assert layer.bias is not None
    steps = step.astype(np.float32)
    rounded = (np.rint(graph.arrays[layer.bias] / steps) * steps).astype(np.float32)
    graph.rename_reads(layer.bias, graph.add_array(fresh(f"{layer.name}.{layer.bias}_rounded"), rounded), nodes)
