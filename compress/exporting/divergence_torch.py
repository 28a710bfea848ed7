"""The first operator of an int8 file that differs from the network in torch that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from compress.exporting.canonical import Scale
from compress.exporting.difference import Step
from compress.exporting.divergence import alike, explain_optimizations, search
from compress.exporting.divergence_search import Divergence
from compress.exporting.graph import Array, attribute
from compress.exporting.onnx_values import PLAIN, Coding, OnnxValues
from compress.exporting.shared_tensors import (
    Pair,
    agreed,
    bias_step,
    coding_of,
    constant_step,
    grid_of,
    margin_of,
    padding_of,
    quantized,
)
from compress.exporting.torch_values import BIAS, TRANSPOSED, WEIGHT, TorchValues, constants
from compress.quantization.aten import node_kind
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.operators import ROLES, Role
from compress.quantization.weighted import Weighted

aten = torch.ops.aten

SAME: dict[Any, frozenset[str]] = {
    aten.add.Tensor: frozenset({"Add"}),
    aten.mul.Tensor: frozenset({"Mul"}),
    aten.sub.Tensor: frozenset({"Sub"}),
    aten.cat.default: frozenset({"Concat"}),
    aten.relu.default: frozenset({"Relu"}),
    aten.layer_norm.default: frozenset({"LayerNormalization"}),
    aten.max_pool2d.default: frozenset({"MaxPool"}),
    aten.avg_pool2d.default: frozenset({"AveragePool"}),
    aten.adaptive_avg_pool2d.default: frozenset({"GlobalAveragePool"}),
    aten.conv_transpose2d.input: frozenset({"ConvTranspose"}),
    aten.tanh.default: frozenset({"Tanh"}),
    aten.sigmoid.default: frozenset({"Sigmoid"}),
    aten.matmul.default: frozenset({"MatMul"}),
    aten.bmm.default: frozenset({"MatMul"}),
    aten.reshape.default: frozenset({"Reshape"}),
    aten.view.default: frozenset({"Reshape"}),
    aten.flatten.using_ints: frozenset({"Reshape", "Flatten"}),
    aten.transpose.int: frozenset({"Transpose"}),
    aten.permute.default: frozenset({"Transpose"}),
}
"""torch's operators that are one operator of ONNX with the same activations in the same order."""
RECTIFIERS = ("relu", "clip")
EXAMPLES = 4


def explain_module(model: GraphModule, file: Path | ModelProto, feeds: Mapping[str, Array]) -> Divergence | None:
    """The first operator of an emission whose values differ from those of the prepared `model` on one batch, or None.

    `feeds` are the file's inputs, in the order in which the model takes them.
    """
    proto = onnx.load(file) if isinstance(file, Path) else file
    candidate = OnnxValues(proto, feeds)
    reference = TorchValues(model, [torch.from_numpy(np.ascontiguousarray(array)) for array in feeds.values()])
    pairs = _Matching(model, candidate).pairs()
    pairs = alike(pairs, reference.shapes([pair.source for pair in pairs]), candidate)
    return search(pairs, reference, candidate)


def located(
    file: Path, network: nn.Module | None, feeds: Sequence[Mapping[str, Array]], outputs: Sequence[Sequence[Array]]
) -> str:
    """One sentence on which operator makes a file's answers differ, from torch's or with the runtime's optimizations.

    `outputs` are those of the file without and with optimizations, and torch's, one array per batch of `feeds`. The
    `EXAMPLES` that differ most are looked at.
    """
    plain, optimized, expected = outputs
    if isinstance(network, GraphModule):
        found = explain_module(network, file, _worst(file, feeds, plain, expected))
        if found is not None:
            return found.sentence("torch", "the file")
    found = explain_optimizations(file, _worst(file, feeds, plain, optimized))
    if found is not None:
        return found.sentence("the file", "what the runtime makes of it")
    if not isinstance(network, GraphModule):
        return "The operator cannot be told: only networks that were prepared for int8 are compared one by one"
    return "No operator is to blame: given torch's values each gives torch's, but for rounding, which adds up"


def _worst(
    file: Path, feeds: Sequence[Mapping[str, Array]], found: Sequence[Array], expected: Sequence[Array]
) -> dict[str, Array]:
    """The batch with the largest differences; of it the worst examples, if the file takes as few."""
    gaps = [
        np.abs(np.nan_to_num(a.astype(np.float64) - b, nan=np.inf)).reshape(len(a), -1).max(1)
        for a, b in zip(found, expected, strict=True)
    ]
    batch = max(range(len(gaps)), key=lambda i: float(gaps[i].max()))
    feed = dict(feeds[batch])
    inputs = onnx.load(file, load_external_data=False).graph.input
    axes = [value.type.tensor_type.shape.dim[:1] for value in inputs]
    if all(axis and not axis[0].HasField("dim_value") for axis in axes):
        rows = np.sort(np.argsort(-gaps[batch], kind="stable")[:EXAMPLES])
        feed = {name: array[rows] for name, array in feed.items()}
    return feed


class _Matching:
    """Which tensor of a file is which node of the network: by the names of quantizers and layers, and from there up."""

    def __init__(self, model: GraphModule, file: OnnxValues) -> None:
        self.model, self.file = model, file
        self.named: dict[str, NodeProto] = {}
        for node in file.nodes:
            self.named.setdefault(node.name, node)
        self.grids = quantized(file.graph)
        self.readers = file.graph.readers()
        self.found: dict[str, Pair] = {}

    def pairs(self) -> list[Pair]:
        """All that was matched."""
        calls = [node for node in self.model.graph.nodes if node.op == "call_module"]
        modules = {node: self.model.get_submodule(str(node.target)) for node in calls}
        for node, module in modules.items():
            if isinstance(module, FakeQuantize) and module.enabled:
                self._quantizer(node, module)
        labels: set[str] = set()
        for node, module in modules.items():
            if isinstance(module, Weighted) and module.bits is not None:
                label = node.meta["path"]
                while label in labels:
                    label += "_again"
                labels.add(label)
                self._layer(node, module, label)
        for value, node in zip(self.file.graph.outputs, _results(self.model), strict=False):
            self._match(node, value)
        return list(self.found.values())

    def _quantizer(self, node: Node, module: FakeQuantize) -> None:
        source = node.args[0]
        assert isinstance(source, Node)
        quantize = self.named.get(f"{source.name}_quantize")
        if quantize is None or quantize.op_type != "QuantizeLinear" or quantize.output[0] not in self.grids:
            return
        scale = np.float32(module.scale.item())
        own = Scale(np.asarray(scale), np.asarray(np.int8(module.zero_point.item())), None)
        tensor = quantize.output[0]
        grid = agreed(self.file.graph, tensor, self.grids[tensor], own)
        if grid.axis is not None:
            return
        self.found[tensor] = Pair(tensor, node.name, float(scale), coding_of(grid))
        for reader in self.readers[tensor]:
            if reader.op_type == "DequantizeLinear":
                self.found[reader.output[0]] = Pair(reader.output[0], node.name, float(scale))
        self._match(source, quantize.input[0], float(scale))

    def _layer(self, node: Node, layer: Weighted, label: str) -> None:
        operator = self.named.get(label)
        if operator is None or operator.op_type not in ("Conv", "Gemm", "MatMul"):
            return
        weight, bias = constants(layer)
        transposed = operator.op_type == "MatMul" or (operator.op_type == "Gemm" and not attribute(operator, "transB"))
        scale = Scale(layer.integers()[1].detach().numpy(), np.zeros(1, np.int8), 1 if transposed else 0)
        start, expected = (TRANSPOSED, weight.T) if transposed else (WEIGHT, weight)
        self._constant(operator.input[1], start + str(node.target), expected, scale)
        if bias is not None and len(operator.input) > 2:
            self._constant(operator.input[2], BIAS + str(node.target), bias, None)
        output = self._output(operator, biased=bias is not None and bool(bias.any()))
        if output is not None:
            self.found.setdefault(output, Pair(output, node.name, self._step_behind(output)))
        source = node.args[0]
        assert isinstance(source, Node)
        self._match(source, operator.input[0])

    def _output(self, operator: NodeProto, *, biased: bool) -> str | None:
        """Where the file has a layer's output: behind the bias that is added apart, if it is."""
        output = str(operator.output[0])
        if not biased or len(operator.input) > 2:
            return output
        behind = self.readers[output]
        return str(behind[0].output[0]) if len(behind) == 1 and behind[0].op_type == "Add" else None

    def _constant(self, tensor: str, source: str, expected: Array, scale: Scale | None) -> None:
        dequantize = self.file.writers.get(tensor)
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            return
        grid, integers = grid_of(self.file.graph, dequantize), self.file.graph.arrays.get(dequantize.input[0])
        if grid is None or integers is None:
            return
        step: Step = constant_step(grid, scale, expected.ndim) if scale is not None else None
        if scale is None:
            step = bias_step(expected, grid)
        self.found[tensor] = Pair(tensor, source, step, Coding(margin=margin_of(expected.shape, integers.shape)))

    def _step_behind(self, tensor: str) -> float | None:
        """The scale of the QuantizeLinear that reads a tensor, directly or behind a rectifier."""
        for node in self.readers[tensor]:
            if node.op_type == "QuantizeLinear":
                pair = self.found.get(node.output[0])
                return None if pair is None or not isinstance(pair.step, float) else pair.step
            if node.op_type in ("Relu", "Clip"):
                return self._step_behind(node.output[0])
        return None

    def _scale(self, node: Node) -> float | None:
        """The scale of a node's values, where it only moves quantized ones."""
        while node.op == "call_function" and ROLES[node_kind(node)] is Role.MOVES and isinstance(node.args[0], Node):
            node = node.args[0]
        module = self.model.get_submodule(str(node.target)) if node.op == "call_module" else None
        return float(module.scale.item()) if isinstance(module, FakeQuantize) else None

    def _match(self, node: Node, tensor: str, step: Step = None) -> None:
        """`tensor` has the values of `node`; so have, as far as both are alike, what they are computed from."""
        writer = self.file.writers.get(tensor)
        if writer is None:
            return
        while node_kind(node) in RECTIFIERS and writer.op_type not in ("Relu", "Clip"):
            source = node.args[0]
            assert isinstance(source, Node)
            node = source
        if tensor not in self.found:
            step = self._scale(node) if step is None else step
            dequantizes = writer.op_type == "DequantizeLinear"
            if dequantizes and step is None:
                self._rounded_early(node, writer)
                return
            coding = Coding(margin=padding_of(self.file, writer)) if dequantizes else PLAIN
            self.found[tensor] = Pair(tensor, node.name, step, coding)
        elif node.op == "call_module":
            return
        if writer.op_type not in SAME.get(node.target, ()):
            return
        sources = [item for item in _activations(node.args) if item.op != "get_attr"]
        names = [name for name in writer.input if name in self.file.writers]
        if len(sources) == len(names) and not any(name in self.file.inputs for name in writer.input):
            for source, name in zip(sources, names, strict=True):
                if source.op != "placeholder" and name not in self.found:
                    self._match(source, name)

    def _rounded_early(self, node: Node, dequantize: NodeProto) -> None:
        """The file rounds a tensor that torch leaves in float: what is comparable lies before that."""
        quantize = self.file.writers.get(dequantize.input[0])
        if quantize is not None and quantize.op_type == "QuantizeLinear":
            self._match(node, quantize.input[0])


def _activations(arguments: Any) -> Iterator[Node]:
    """The nodes among arguments, lists of them opened, in order."""
    for item in arguments:
        if isinstance(item, Node):
            if isinstance(item.meta.get("val"), Tensor) or item.op == "call_module":
                yield item
        elif isinstance(item, list | tuple):
            yield from _activations(item)


def _results(model: GraphModule) -> list[Node]:
    output = next(node for node in model.graph.nodes if node.op == "output")
    return list(_activations(output.args))
