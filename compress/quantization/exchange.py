"""Between the network that int8 training works on, and the float ONNX graph that methods without training work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.bundle import Deployment
from compress.exporting.canonical import split
from compress.exporting.graph import Graph
from compress.exporting.torch_onnx import DEFAULT_OPSET
from compress.quantization.convert import canonical, labels_of
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.ladder import Quantization
from compress.quantization.onnx_graph import Layer, Types, read
from compress.quantization.operators import Operator
from compress.quantization.placement import Point
from compress.quantization.template import GridPoint, QuantizedWeight, Template
from compress.quantization.weighted import Weighted


@dataclass(frozen=True)
class Link:
    """A prepared network and its template, of the same places.

    `quantizers` has the module of each group, `layers` that of each layer by the tensor that it writes.
    """

    model: GraphModule
    template: Template
    quantizers: Mapping[str, FakeQuantize] = field(repr=False)
    layers: Mapping[str, Weighted] = field(repr=False)

    def start_from(self, found: Quantization) -> None:
        """Give the network the grids of a quantization of these places, and where it has no norms its float weights."""
        for group, (scale, zero_point) in found.grid.items():
            self.quantizers[group].set_grid(scale, zero_point)
        arrays = Graph(found.template.proto.graph).arrays
        for output, module in self.layers.items():
            if module.norm is None:
                layer = self.template.layers[output]
                weight, bias = arrays[layer.weight], None if layer.bias is None else arrays[layer.bias]
                module.set_float(_as_module(layer, weight), None if bias is None else torch.from_numpy(np.array(bias)))
        self._take_parameters(arrays)

    def apply(self, found: Quantization) -> None:
        """Give the network the grids and integers of a quantization of these places, and its other weights."""
        assert found.grid.keys() == self.quantizers.keys(), "the network is quantized at other places"
        assert found.weights.keys() == self.layers.keys(), "other layers of the network are in int8"
        for group, (scale, zero_point) in found.grid.items():
            self.quantizers[group].set_grid(scale, zero_point)
        arrays = Graph(found.template.proto.graph).arrays
        for output, weights in found.weights.items():
            layer = found.template.layers[output]
            self.layers[output].set_folded(
                _as_module(layer, weights.integers),
                torch.from_numpy(np.array(weights.scale)),
                None if layer.bias is None else torch.from_numpy(np.array(arrays[layer.bias])),
            )
        self._take_parameters(arrays)

    def _take_parameters(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What is no layer's, such as the scale of a normalization, by its name."""
        before = Graph(self.template.proto.graph).arrays
        known = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        with torch.no_grad():
            for name, array in arrays.items():
                changed = name in known and known[name].shape == array.shape and not np.array_equal(array, before[name])
                if changed:
                    known[name].copy_(torch.from_numpy(np.array(array)))

    def quantization(self) -> Quantization:
        """The network as it is now."""
        grid: dict[str, GridPoint] = {
            group: (module.scale.item(), int(module.zero_point.item())) for group, module in self.quantizers.items()
        }
        weights = {}
        for output, module in self.layers.items():
            integers, scale = (tensor.detach().numpy() for tensor in module.integers())
            turned = _is_turned(self.template.layers[output])
            weights[output] = QuantizedWeight(np.ascontiguousarray(integers.T if turned else integers), scale)
        return Quantization(self.template, grid, weights)


def _is_turned(layer: Layer) -> bool:
    """Whether the graph holds the weights of a linear layer as (inputs, outputs)."""
    return layer.kind == "linear" and layer.axis == 1


def _as_module(layer: Layer, array: np.ndarray) -> Tensor:
    """Weights of the graph as the module holds them, float32."""
    return torch.from_numpy(np.ascontiguousarray(array.T if _is_turned(layer) else array).astype(np.float32))


def link(model: GraphModule, deployment: Deployment, examples: tuple[Tensor, ...], opset: int = DEFAULT_OPSET) -> Link:
    """The template of a prepared network in evaluation mode, with its float weights, norms folded in.

    Raises:
        StageError: The network cannot be exported to ONNX.
    """
    proto = canonical(model, deployment, examples, opset)
    marks = dict(labels_of(model).values())
    floating, points, weights = _taken_apart(proto, marks)
    graph = Graph(floating.graph)
    operators, layers = read(graph, Types(floating))
    chosen = {output: layer for output, layer in layers.items() if layer.weight in weights}
    modules: dict[str, Weighted] = {}
    for output, layer in chosen.items():
        label, transposed = weights[layer.weight]
        module = marks[label]
        assert isinstance(module, Weighted)
        modules[output] = module
        weight, bias = module.unrounded()
        values = weight.detach().numpy()
        graph.arrays[layer.weight] = np.ascontiguousarray(values.T if transposed else values)
        if layer.bias is not None and bias is not None:
            graph.arrays[layer.bias] = bias.detach().numpy().copy()
    graph.write()
    kept = tuple(_as_placed(operator, layers, chosen) for operator in operators)
    integer = frozenset(chosen)
    groups = {point.group: marks[label] for label, point in points.items()}
    quantizers = {group: module for group, module in groups.items() if isinstance(module, FakeQuantize)}
    symmetric = any(module.symmetric for module in quantizers.values())
    template = Template(floating, tuple(points.values()), chosen, kept, integer, symmetric)
    return Link(model, template, quantizers, modules)


def _as_placed(operator: Operator, layers: Mapping[str, Layer], chosen: Mapping[str, Layer]) -> Operator:
    """A layer that the network keeps in float is ignored."""
    return replace(operator, ignored=True) if operator.output in layers and operator.output not in chosen else operator


def _taken_apart(
    proto: ModelProto, marks: Mapping[str, nn.Module]
) -> tuple[ModelProto, dict[str, Point], dict[str, tuple[str, bool]]]:
    """The float graph; its points by label; and of each int8 weight its label and whether it lies transposed."""
    graph = Graph(proto.graph)
    readers = graph.readers()
    outputs = set(graph.outputs)
    weights: dict[str, tuple[str, bool]] = {}
    found: list[tuple[str, str, FakeQuantize, frozenset[str] | None]] = []
    for node in graph.nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] in graph.arrays:
            label, _, end = node.name.rpartition(".dequantize")
            weights[node.output[0]] = (label, end == "_transposed")
        elif node.op_type == "QuantizeLinear":
            label = node.name.removesuffix("_quantize")
            (dequantize,) = readers[node.output[0]]
            module = marks[label]
            assert isinstance(module, FakeQuantize)
            tensor, floats = node.input[0], dequantize.output[0]
            past = [reader for reader in readers[tensor] if reader is not node]
            behind = frozenset(name for reader in readers[floats] for name in reader.output)
            found.append((label, floats if floats in outputs else tensor, module, behind if past else None))
    floating, _ = split(proto)
    biased = _outputs_with_bias(Graph(floating.graph))
    first: dict[int, str] = {}
    points = {}
    for label, tensor, module, after in found:
        group = first.setdefault(id(module), tensor)
        readers_of = None if after is None else frozenset(biased.get(name, name) for name in after)
        points[label] = Point(tensor, group, readers_of, module.bounds)
    return floating, points, weights


def _outputs_with_bias(graph: Graph) -> dict[str, str]:
    """What a matrix product writes -> what it writes with its bias."""
    readers = graph.readers()
    found = {}
    for node in graph.nodes:
        behind = readers[node.output[0]]
        added = node.op_type == "MatMul" and len(behind) == 1 and behind[0].op_type == "Add"
        if added and any(name in graph.arrays for name in behind[0].input):
            found[node.output[0]] = behind[0].output[0]
    return found
