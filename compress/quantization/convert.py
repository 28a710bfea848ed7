"""The canonical graph: ONNX with signed 8-bit QuantizeLinear and DequantizeLinear, weights stored as int8."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.bundle import Deployment
from compress.errors import StageError
from compress.exporting.torch_onnx import to_proto
from compress.exporting.tracing import quiet
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.weighted import Weighted

DOMAIN = "compress"
Array = np.ndarray[Any, Any]


class Mark(NamedTuple):
    """What a mark stands for: `weights` are None for an activation, `axis` is theirs of output channels."""

    weights: Array | None
    scale: Array
    zero_point: Array
    axis: int = 0


Marks = dict[str, Mark]


def canonical(model: nn.Module, deployment: Deployment, example_inputs: tuple[Tensor, ...], opset: int) -> ModelProto:
    """The ONNX graph whose numbers are those of the prepared model in evaluation mode.

    Marks take the place of everything that quantizes, so that the exporter sees an ordinary float network; then each
    mark becomes quantization operators with the model's own scales.
    """
    assert isinstance(model, GraphModule)
    marked, marks = _mark(model)
    proto = to_proto(marked, deployment, example_inputs, opset)
    _resolve(proto, marks)
    onnx.checker.check_model(proto)
    return proto


def _mark(model: GraphModule) -> tuple[GraphModule, Marks]:
    """A float copy of the model with a mark on each quantized tensor, and what each mark stands for."""
    with quiet():
        marked = copy.deepcopy(model).eval().cpu()
    marks: Marks = {}
    labels = labels_of(marked)
    for node in list(marked.graph.nodes):
        if node.name not in labels:
            continue
        label, module = labels[node.name]
        if isinstance(module, FakeQuantize):
            scale, zero_point = np.float32(module.scale.item()), np.int8(module.zero_point.item())
            marks[label] = Mark(None, np.asarray(scale), np.asarray(zero_point))
            marked.add_submodule("marks." + label, _Mark(label))
            node.target = "marks." + label
        else:
            if module.bits is not None:
                weights, scales = (item.numpy() for item in module.integers())
                marks[label] = Mark(weights, scales, np.zeros_like(scales, dtype=np.int8), module.axis)
            marked.set_submodule(str(node.target), _Plain(module, label))
    return GraphModule(marked, marked.graph), marks


def labels_of(model: GraphModule) -> dict[str, tuple[str, FakeQuantize | Weighted]]:
    """For each call of a quantizer or layer, by the node's name: what its mark is called, and the module.

    A quantizer is called what the tensor that it reads is called, a layer what its module is called in the network.
    """
    found: dict[str, tuple[str, FakeQuantize | Weighted]] = {}
    taken: set[str] = set()
    for node in model.graph.nodes:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, FakeQuantize):
            found[node.name] = (f"{node.args[0].name}", module)
        elif isinstance(module, Weighted):
            label = node.meta["path"]
            while label in taken:  # a module that is called more than once
                label += "_again"
            taken.add(label)
            found[node.name] = (label, module)
    return found


class _Mark(nn.Module):
    """The identity, kept by the exporter as an operator of its own."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = torch.onnx.ops.symbolic(
            f"{DOMAIN}::Mark", (x,), {"label": self.label}, dtype=x.dtype, shape=x.shape, version=1
        )
        return result


class _Plain(nn.Module):
    """A layer with its norm folded, its weights marked if they are int8."""

    def __init__(self, layer: Weighted, label: str) -> None:
        super().__init__()
        weight, bias = layer.folded()
        self.weight = nn.Parameter(weight.detach())
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias.detach()))
        self.function, self.arguments = layer.function, layer.arguments
        self.mark = nn.Identity() if layer.bits is None else _Mark(label)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.mark(self.weight), self.bias, *self.arguments)


def _resolve(proto: ModelProto, marks: Marks) -> None:
    """Replace every mark by quantization operators."""
    graph = proto.graph
    nodes: list[NodeProto] = []
    transposed: dict[str, str] = {}
    for node in graph.node:
        _name_after_weight(node, transposed)
        if node.domain != DOMAIN:
            if node.op_type == "Transpose" and node.input[0] in transposed:
                label = transposed[node.input[0]]
                nodes += _weight(graph, label, marks[label], node.output[0], transpose=True)
                continue
            nodes.append(node)
            continue
        label = helper.get_node_attr_value(node, "label").decode()
        if label not in marks:
            raise StageError(f"export: the exporter made a mark {label!r} that nothing stands for")
        if marks[label].weights is None:
            nodes += _activation(graph, label, marks[label], node)
        else:
            transposed[node.output[0]] = label
            nodes += _weight(graph, label, marks[label], node.output[0])
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unused(graph)
    kept = [item for item in proto.opset_import if item.domain != DOMAIN]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)


def _name_after_weight(node: NodeProto, labels: dict[str, str]) -> None:
    """Call an operator what its module is called; a transposed weight goes under the same label."""
    label = next((labels[name] for name in node.input if name in labels), None)
    if label is not None and node.op_type == "Transpose":
        labels[node.output[0]] = label
    elif label is not None:
        node.name = label


def _activation(graph: Any, label: str, mark: Mark, node: NodeProto) -> list[NodeProto]:
    names = [f"{label}_scale", f"{label}_zero_point"]
    arrays = (mark.scale, mark.zero_point)
    graph.initializer.extend(numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True))
    quantized = f"{label}_quantized"
    return [
        helper.make_node("QuantizeLinear", [node.input[0], *names], [quantized], f"{label}_quantize"),
        helper.make_node("DequantizeLinear", [quantized, *names], [node.output[0]], f"{label}_dequantize"),
    ]


def _weight(graph: Any, label: str, mark: Mark, output: str, transpose: bool = False) -> list[NodeProto]:
    assert mark.weights is not None
    suffix = "_transposed" if transpose else ""
    names = [f"{label}.weight_quantized{suffix}", f"{label}.weight_scale{suffix}", f"{label}.weight_zero_point{suffix}"]
    weights = np.ascontiguousarray(mark.weights.T) if transpose else mark.weights
    arrays = (weights, mark.scale, mark.zero_point)
    known = {item.name for item in graph.initializer}
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for array, name in zip(arrays, names, strict=True) if name not in known
    )
    axis = 1 if transpose else mark.axis
    return [helper.make_node("DequantizeLinear", names, [output], f"{label}.dequantize{suffix}", axis=axis)]


def _drop_unused(graph: Any) -> None:
    """Remove operators that nothing reads, then initializers that nothing reads."""
    while True:
        used = {name for node in graph.node for name in node.input} | {item.name for item in graph.output}
        dead = [node for node in graph.node if not used.intersection(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    kept: list[TensorProto] = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
