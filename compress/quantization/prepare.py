"""From a float network to the one that int8 training works on: exported, norms folded, tensors quantized as placed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from compress.errors import UsageError
from compress.quantization.aten import NORMS, argument, is_constant, node_kind, read
from compress.quantization.fake_quantize import FakeQuantize
from compress.quantization.operators import ROLES, WEIGHTED, Role
from compress.quantization.placement import Placement, place
from compress.quantization.trace import spell_out, trace
from compress.quantization.weighted import Norm, Weighted

aten = torch.ops.aten

INTEGER_SOURCES = ("add", "concat", "conv", "conv_transpose", "average_pool", "max_pool")
WEIGHTED_KINDS = tuple(kind for kind, role in ROLES.items() if role in WEIGHTED)


def prepare(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    *,
    symmetric: bool = False,
    weight_bits: int = 8,
    ignore: Sequence[str] = (),
) -> GraphModule:
    """A copy of the network with `FakeQuantize` modules where the placement puts them, and `Weighted` layers.

    `example_inputs` are batches of at least two examples; the first axis of each stays free, and the second one of
    token ids and masks (int64). The copy is in evaluation mode, its activation ranges are empty: see
    `compress.quantization.calibrate`.

    Raises:
        UsageError: A glob of `ignore` matches no module.
        StageError: torch cannot trace the network.
    """
    _check_globs(module, ignore)
    graph_module = trace(module, example_inputs)
    graph = graph_module.graph
    spell_out(graph_module)
    _name_paths(graph)
    _make_weighted(graph_module, weight_bits)
    _make_norms_convolutions(graph_module, weight_bits)
    placement = place(read(graph, tuple(ignore)), symmetric=symmetric)
    for node in graph.nodes:
        if node.op == "call_module" and node.meta.get("kind") in WEIGHTED_KINDS and node.name not in placement.integer:
            _layer(graph_module, node).bits = None
    _insert_quantizers(graph_module, placement, symmetric)
    name_sources(graph_module)
    graph.eliminate_dead_code()
    graph.lint()
    result = GraphModule(graph_module, graph)
    result.eval()
    return result


def _check_globs(module: nn.Module, ignore: Sequence[str]) -> None:
    names = [name for name, _ in module.named_modules() if name]
    for glob in ignore:
        if not any(fnmatchcase(name, glob) for name in names):
            raise UsageError(f"quantize.ignore: {glob!r} matches no module; there are {', '.join(names[:12])} ...")


def _name_paths(graph: Graph) -> None:
    """Note on each layer with weights the module that they belong to."""
    for node in graph.nodes:
        if node_kind(node) in WEIGHTED_KINDS and is_constant(argument(node, 1, "weight")):
            node.meta["path"] = _owner(argument(node, 1, "weight"))


def _owner(parameter: Node) -> str:
    """The module that a parameter belongs to."""
    return str(parameter.target).rpartition(".")[0] or str(parameter.target)


def _make_weighted(graph_module: GraphModule, bits: int) -> None:
    """Replace each layer with constant weights, and the norm that alone reads it, by a `Weighted` module."""
    graph = graph_module.graph
    for node in list(graph.nodes):
        kind = node_kind(node)
        weight, bias = (argument(node, i, name) for i, name in ((1, "weight"), (2, "bias")))
        if node.op != "call_function" or kind not in WEIGHTED_KINDS or not is_constant(weight):
            continue
        if bias is not None and not is_constant(bias):
            continue
        axis = 1 if kind == "conv_transpose" else 0
        layer = Weighted(
            node.target, _tensor(graph_module, weight), _tensor(graph_module, bias), tuple(node.args[3:]), bits, axis
        )
        assert not set(node.kwargs) - {"weight", "bias"}, node.kwargs
        last = _fold_norm(graph_module, node, layer)
        _replace(graph_module, node, last, layer, kind=kind, path=node.meta["path"])
    graph.eliminate_dead_code()


def _make_norms_convolutions(graph_module: GraphModule, bits: int) -> None:
    """A batch norm of images or lines that stands alone, behind what runs in int8, becomes a depthwise 1x1 convolution.

    That has an int8 kernel; its weight of 1 is exact in int8, whatever the norm makes of it.
    """
    graph = graph_module.graph
    for norm in [node for node in graph.nodes if node.target in NORMS]:
        source = norm.args[0]
        while node_kind(source) in ("relu", "clip"):
            source = source.args[0]
        axes = norm.args[0].meta["val"].dim() - 2
        if node_kind(source) not in INTEGER_SOURCES or axes not in (1, 2) or not is_constant(norm.args[3]):
            continue
        mean = _tensor(graph_module, norm.args[3])
        function = aten.conv1d.default if axes == 1 else aten.conv2d.default
        arguments = ([1] * axes, [0] * axes, [1] * axes, len(mean))
        layer = Weighted(function, torch.ones(len(mean), 1, *[1] * axes), None, arguments, bits)
        layer.weight.requires_grad_(False)
        last = _take_norm(graph_module, norm, layer)
        _replace(graph_module, norm, last, layer, kind="conv", path=_owner(norm.args[3]))
    graph.eliminate_dead_code()


def _replace(graph_module: GraphModule, first: Node, last: Node, layer: Weighted, *, kind: str, path: str) -> None:
    """Let a call of `layer` stand for the operators from `first` to `last`."""
    name = "layers." + path.replace(".", "_")
    while _has(graph_module, name):
        name += "_again"
    graph_module.add_submodule(name, layer)
    with graph_module.graph.inserting_after(last):
        call = graph_module.graph.call_module(name, (first.args[0],))
    call.meta = {"val": last.meta["val"], "kind": kind, "path": path}
    last.replace_all_uses_with(call)


def _fold_norm(graph_module: GraphModule, node: Node, layer: Weighted) -> Node:
    """Give the layer the batch norm that alone reads it, if there is one; the node whose value the layer then has."""
    readers = list(node.users)
    if len(readers) != 1 or readers[0].target not in NORMS or readers[0].args[0] is not node:
        return node
    norm = readers[0]
    if node_kind(node) == "linear" and node.meta["val"].dim() != 2:
        return node
    return _take_norm(graph_module, norm, layer)


def _take_norm(graph_module: GraphModule, norm: Node, layer: Weighted) -> Node:
    """Give a layer a batch norm; the node whose value is the norm's."""
    weight, bias, mean, variance = (_tensor(graph_module, item) for item in norm.args[1:5])
    constants: Any = norm.args[6:8] if norm.target is aten.batch_norm.default else norm.args[5:7]
    momentum, eps = constants
    layer.norm = Norm((weight, bias), (mean, variance), momentum, eps)
    if norm.target is aten.batch_norm.default:
        return norm
    return next(user for user in norm.users if user.target is operator.getitem and user.args[1] == 0)


def _layer(graph_module: GraphModule, node: Node) -> Weighted:
    layer = graph_module.get_submodule(str(node.target))
    assert isinstance(layer, Weighted)
    return layer


def _insert_quantizers(graph_module: GraphModule, placement: Placement, symmetric: bool) -> None:
    """Put the modules in; tensors of one group call one module."""
    nodes = {node.name: node for node in graph_module.graph.nodes}
    for point in placement.points:
        node = nodes[point.tensor]
        name = "quantizers." + point.group
        if not _has(graph_module, name):
            graph_module.add_submodule(name, FakeQuantize(point.bounds, symmetric))
        with graph_module.graph.inserting_after(node):
            call = graph_module.graph.call_module(name, (node,))
        call.meta = {"val": node.meta["val"]}
        readers = [user for user in node.users if user is not call]
        for user in readers:
            if point.readers is None or user.name in point.readers:
                user.replace_input_with(node, call)


def name_sources(graph_module: GraphModule) -> None:
    """Tell each int8 layer the quantizer of what it reads, directly or behind operators that move values."""
    for node in graph_module.graph.nodes:
        if node.op != "call_module" or node.meta.get("kind") not in WEIGHTED_KINDS:
            continue
        source = node.args[0]
        while ROLES[node_kind(source)] is Role.MOVES:
            source = source.args[0]
        found = graph_module.get_submodule(str(source.target)) if source.op == "call_module" else None
        if isinstance(found, FakeQuantize):
            _layer(graph_module, node).source = (found,)


def _tensor(graph_module: GraphModule, node: Any) -> Any:
    if node is None:
        return None
    found: Any = graph_module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found


def _has(module: nn.Module, name: str) -> bool:
    return any(known == name for known, _ in module.named_modules())
