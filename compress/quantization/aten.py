"""Reads an exported torch graph (ATen operators) as the neutral operators of `compress.quantization.operators`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.fx import Graph, Node

from compress.quantization.operators import Operator

aten = torch.ops.aten

KINDS: dict[Any, str] = {
    aten.conv1d.default: "conv",
    aten.conv1d.padding: "conv",
    aten.conv2d.default: "conv",
    aten.conv2d.padding: "conv",
    aten.conv_transpose1d.default: "conv_transpose",
    aten.conv_transpose2d.input: "conv_transpose",
    aten.linear.default: "linear",
    aten.add.Tensor: "add",
    aten.mul.Tensor: "mul",
    aten.cat.default: "concat",
    aten.avg_pool1d.default: "average_pool",
    aten.avg_pool2d.default: "average_pool",
    aten.adaptive_avg_pool2d.default: "global_average_pool",
    aten.max_pool1d.default: "max_pool",
    aten.max_pool2d.default: "max_pool",
    aten.pad.default: "pad",
    aten.constant_pad_nd.default: "pad",
    aten.view.default: "reshape",
    aten.reshape.default: "reshape",
    aten.flatten.using_ints: "reshape",
    aten.squeeze.dim: "reshape",
    aten.squeeze.dims: "reshape",
    aten.unsqueeze.default: "reshape",
    aten.upsample_nearest1d.vec: "resize_nearest",
    aten.upsample_nearest2d.vec: "resize_nearest",
    aten.slice.Tensor: "slice",
    aten.select.int: "slice",
    aten.permute.default: "transpose",
    aten.transpose.int: "transpose",
    aten.contiguous.default: "reshape",
    aten.clone.default: "reshape",
    aten.relu.default: "relu",
    aten.hardtanh.default: "clip",
    aten.relu6.default: "clip",
    aten.clamp.default: "clip",
    aten.clamp_min.default: "clip",
    aten.sigmoid.default: "sigmoid",
    aten.hardsigmoid.default: "hard_sigmoid",
    aten.leaky_relu.default: "leaky_relu",
    aten.gelu.default: "gelu",
    aten.layer_norm.default: "layer_norm",
    aten.matmul.default: "matmul",
    aten.softmax.int: "softmax",
}
"""ATen operator -> neutral operator. What is not listed is `other`."""

NORMS = (aten.batch_norm.default, aten._native_batch_norm_legit_no_training.default)


def read(graph: Graph, ignore: tuple[str, ...] = ()) -> list[Operator]:
    """The graph's operators on float tensors, in order.

    `ignore` are globs of module names; operators in them stay in float.
    """
    operators = []
    for node in graph.nodes:
        if node.op not in ("call_function", "call_module") or not _is_float(node):
            continue
        kind = node_kind(node)
        inputs = [n for n in _tensor_inputs(node) if _is_float(n) and n.op != "get_attr"]
        ignored = any(fnmatchcase(path, glob) for path in module_paths(node) for glob in ignore)
        operators.append(Operator(node.name, kind, tuple(n.name for n in inputs), _bounds(node, kind), ignored))
    return operators


def node_kind(node: Node) -> str:
    """The neutral operator that a node is, `other` where its arguments are not what an int8 kernel does."""
    kind = node.meta.get("kind") or KINDS.get(node.target, "other")
    suits = _SUITS.get(kind)
    return kind if suits is None or suits(node) else "other"


def module_paths(node: Node) -> list[str]:
    """The modules that a node lies in, by their names in the float network, outermost first."""
    if "path" in node.meta:
        parts = node.meta["path"].split(".")
        return [".".join(parts[: i + 1]) for i in range(len(parts))]
    stack = node.meta.get("nn_module_stack") or {}
    return [path for path, *_ in stack.values() if path]


def argument(node: Node, position: int, name: str, default: Any = None) -> Any:
    """One argument of a call, by position or name."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def is_constant(node: Any) -> bool:
    """Whether it is a parameter or buffer."""
    return isinstance(node, Node) and node.op == "get_attr"


def _is_float(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _tensor_inputs(node: Node) -> list[Node]:
    first = node.args[0] if node.args else None
    if node.target is aten.cat.default and isinstance(first, list | tuple):
        return [item for item in first if isinstance(item, Node)]
    return list(node.all_input_nodes)


def _bounds(node: Node, kind: str) -> tuple[float, float] | None:
    if kind == "relu":
        return 0.0, float("inf")
    if kind != "clip":
        return None
    if node.target is aten.relu6.default:
        return 0.0, 6.0
    hardtanh = node.target is aten.hardtanh.default
    low = argument(node, 1, "min_val" if hardtanh else "min", -1.0 if hardtanh else None)
    high = argument(node, 2, "max_val" if hardtanh else "max", 1.0 if hardtanh else None)
    return float("-inf") if low is None else float(low), float("inf") if high is None else float(high)


def _adds_two_tensors(node: Node) -> bool:
    """Two activations, no factor."""
    tensors = all(isinstance(item, Node) and not is_constant(item) and _is_float(item) for item in node.args[:2])
    return tensors and len(node.args) >= 2 and argument(node, 2, "alpha", 1) == 1


def _reads_all_channels(node: Node) -> bool:
    """A transposed convolution without groups and dilation, whose output channels lie on one axis of its weights."""
    return argument(node, 6, "groups", 1) == 1 and set(argument(node, 7, "dilation", [1])) == {1}


def _pools_everything(node: Node) -> bool:
    return list(argument(node, 1, "output_size")) == [1, 1] if node.target is not None else False


def _pools_whole_windows(node: Node) -> bool:
    """No window reaches over the edge, where ONNX Runtime's int8 kernel counts what is not there."""
    return not argument(node, 4, "ceil_mode", False) and argument(node, 6, "divisor_override") is None


def _pads_zeros(node: Node) -> bool:
    constant_pad = node.target is aten.constant_pad_nd.default
    zeros = constant_pad or argument(node, 2, "mode", "constant") == "constant"
    value = argument(node, 2 if constant_pad else 3, "value", None)
    return zeros and not value and all(isinstance(item, int) and item >= 0 for item in node.args[1])  # type: ignore[union-attr]


def _clips_around_zero(node: Node) -> bool:
    """Bounds that are numbers and include 0, as every quantized range does."""
    numbers = all(not isinstance(item, Node) for item in (*node.args[1:], *node.kwargs.values()))
    bounds = _bounds(node, "clip") if numbers else None
    return bounds is not None and bounds[0] <= 0 < bounds[1]


_SUITS = {
    "add": _adds_two_tensors,
    "mul": _adds_two_tensors,
    "conv_transpose": _reads_all_channels,
    "average_pool": _pools_whole_windows,
    "global_average_pool": _pools_everything,
    "pad": _pads_zeros,
    "clip": _clips_around_zero,
}
"""What a node's arguments must be for it to count as an operator of its kind."""
