"""From a network to its graph of ATen operators, written so that the rules of placement know what they see."""

from __future__ import annotations

import copy
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.fx import Graph, GraphModule, Node

from compress.errors import StageError
from compress.exporting.tracing import dynamic_shapes, quiet, reason
from compress.quantization.aten import argument, is_constant

aten = torch.ops.aten
Dim = torch.export.Dim

KEEPS_CHANNELS = frozenset(
    {
        aten.add.Tensor, aten.avg_pool1d.default, aten.batch_norm.default, aten.dropout.default, aten.gelu.default,
        aten.hardswish.default, aten.hardtanh.default, aten.leaky_relu.default, aten.max_pool1d.default,
        aten.mul.Tensor, aten.relu.default, aten.silu.default,
    }
)  # fmt: skip
"""Operators behind which the axes of a convolved line are still channels and places."""
VMAP = "torch._functorch.predispatch"
"""Where torch keeps what it writes into a graph for `vmap`."""
CHECKS = (aten._assert_tensor_metadata.default,)
"""Operators that only test what they read: among others that it lies on the device of the tracing."""


def trace(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> GraphModule:
    """An independent copy of the network as a graph of ATen operators without in-place ones, in evaluation mode.

    The first axis of each input stays free, and the second one of token ids and masks (int64).

    Raises:
        StageError: torch cannot trace the network, or only for texts of one length.
    """
    copied = copy.deepcopy(module).eval()
    with quiet():
        try:
            shapes = dynamic_shapes(copied, tuple(map(_free_axes, example_inputs)))
            program = torch.export.export(copied, example_inputs, dynamic_shapes=shapes, strict=False)
            if any(_is_to_be_rewritten(node) for node in program.graph.nodes):
                program = program.run_decompositions({})
        except Exception as error:
            raise StageError(f"torch.export cannot trace the network: {reason(error)}") from error
    graph_module = program.module(check_guards=False)
    assert isinstance(graph_module, GraphModule)
    graph = graph_module.graph
    for node in list(graph.nodes):
        if node.target in CHECKS or _is_the_identity(node):
            if node.target not in CHECKS:
                node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.target is aten.view.default:
            node.target = aten.reshape.default  # what decomposition made a view need not be one behind a quantizer
    _follow_device(graph)
    return GraphModule(graph_module, graph)


def _free_axes(x: Tensor) -> dict[int, Any]:
    return {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} if x.dtype == torch.int64 else {0: Dim.AUTO}


def _is_the_identity(node: Node) -> bool:
    """Dropout in evaluation, which decomposition writes as a copy."""
    copies = node.target is aten.clone.default and not node.kwargs and not is_constant(node.args[0])
    return copies or node.target is aten.dropout.default


def _follow_device(graph: Graph) -> None:
    """Let what makes tensors, such as positions, make them where the first input lies, not where tracing was."""
    makers = [node for node in graph.nodes if node.kwargs.get("device") is not None]
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if not makers:
        return
    with graph.inserting_after(inputs[-1]):
        device = graph.call_function(getattr, (inputs[0], "device"))
    for node in makers:
        node.update_kwarg("device", device)


def _is_to_be_rewritten(node: Node) -> bool:
    """Writes in place, or is no plain operator: a block without gradients, the insides of `vmap`."""
    if isinstance(node.target, HigherOrderOperator) or getattr(node.target, "__module__", "") == VMAP:
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and node.target is not aten.batch_norm.default


def spell_out(graph_module: GraphModule) -> None:
    """Write operators that an int8 kernel could do as those that the placement knows."""
    _spell_out_means(graph_module.graph)
    _spell_out_pools_of_lines(graph_module.graph)
    _spell_out_gated(graph_module.graph)
    _spell_out_products(graph_module)


def _spell_out_means(graph: Graph) -> None:
    """A mean over height and width of an image becomes a global average pool, which has an int8 kernel."""
    for node in list(graph.nodes):
        if node.target is aten.avg_pool2d.default and _covers_the_image(node):
            node.target, node.args = aten.adaptive_avg_pool2d.default, (node.args[0], [1, 1])
            continue
        if node.target is not aten.mean.dim or node.args[0].meta["val"].dim() != 4:
            continue
        axes = argument(node, 1, "dim") or []
        if sorted(axis % 4 for axis in axes) != [2, 3] or node.kwargs.get("dtype") is not None:
            continue
        keep = argument(node, 2, "keepdim", False)
        with graph.inserting_before(node):
            pool = graph.call_function(aten.adaptive_avg_pool2d.default, (node.args[0], [1, 1]))
            pool.meta = {**node.meta, "val": node.args[0].meta["val"].mean((2, 3), keepdim=True)}
            result = pool
            if not keep:
                result = graph.call_function(aten.flatten.using_ints, (pool, 1))
                result.meta = dict(node.meta)
        node.replace_all_uses_with(result)
        graph.erase_node(node)


def _spell_out_pools_of_lines(graph: Graph) -> None:
    """A mean over the whole of a convolved line becomes a global average pool of an image of height 1, as in ONNX."""
    for node in [node for node in graph.nodes if _pools_a_line(node)]:
        x = node.args[0].meta["val"]
        with graph.inserting_before(node):
            image = graph.call_function(aten.unsqueeze.default, (node.args[0], 2))
            pool = graph.call_function(aten.adaptive_avg_pool2d.default, (image, [1, 1]))
            keep = node.target is not aten.mean.dim or argument(node, 2, "keepdim", False)
            arguments = (aten.squeeze.dim, (pool, 2)) if keep else (aten.flatten.using_ints, (pool, 1))
            result = graph.call_function(*arguments)
        image.meta, pool.meta = (
            {**node.meta, "val": x.unsqueeze(2)},
            {**node.meta, "val": x.unsqueeze(2).mean((2, 3), True)},
        )
        result.meta = dict(node.meta)
        node.replace_all_uses_with(result)
        graph.erase_node(node)


def _pools_a_line(node: Node) -> bool:
    if node.target is aten.adaptive_avg_pool1d.default:
        return list(argument(node, 1, "output_size")) == [1]
    if node.target is not aten.mean.dim or node.kwargs.get("dtype") is not None:
        return False
    x, axes = argument(node, 0, "self"), argument(node, 1, "dim") or []
    return x.meta["val"].dim() == 3 and [axis % 3 for axis in axes] == [2] and _is_convolved(x)


def _is_convolved(node: Any) -> bool:
    """Whether a tensor of three axes is what a convolution wrote, behind norms, sums and functions of single values.

    Others are tokens, whose last axis holds channels.
    """
    while isinstance(node, Node) and node.target not in (aten.conv1d.default, aten.conv1d.padding):
        if node.target not in KEEPS_CHANNELS:
            return False
        node = node.args[0]
    return isinstance(node, Node)


def _covers_the_image(node: Node) -> bool:
    """Whether an average pool is one window over the whole image, or over more than it.

    EfficientNet of `transformers` pools 7x7 images with a window of 1280x1280; ONNX Runtime's int8 kernel then gives 0.
    """
    size = tuple(node.args[0].meta["val"].shape[2:])  # type: ignore[union-attr]
    kernel = argument(node, 1, "kernel_size")
    kernel = (*kernel, *kernel)[:2]
    padded = any(argument(node, 3, "padding", [0]))
    whole = all(isinstance(n, int) for n in size) and tuple(node.meta["val"].shape[2:]) == (1, 1)
    reaches = whole and all(window >= n for window, n in zip(kernel, size, strict=True))
    return reaches and not padded and argument(node, 6, "divisor_override") is None


GATES = {aten.silu.default: aten.sigmoid.default, aten.hardswish.default: aten.hardsigmoid.default}
"""Activation -> the function that its input is multiplied with."""


def _spell_out_gated(graph: Graph) -> None:
    """SiLU is x * sigmoid(x), hard-swish x * hard_sigmoid(x): each factor and the product has an int8 kernel."""
    for node in [node for node in graph.nodes if node.target in GATES]:
        with graph.inserting_before(node):
            gate = graph.call_function(GATES[node.target], (node.args[0],))
            product = graph.call_function(aten.mul.Tensor, (node.args[0], gate))
        gate.meta, product.meta = dict(node.meta), dict(node.meta)
        node.replace_all_uses_with(product)
        graph.erase_node(node)


def _spell_out_products(graph_module: GraphModule) -> None:
    """A product with constant weights (inputs, outputs) and a bias, as GPT-2 has them, becomes a linear layer."""
    graph = graph_module.graph
    for node in [node for node in graph.nodes if node.target is aten.addmm.default]:
        bias, x, weight = node.args[:3]
        if not (is_constant(bias) and is_constant(weight)) or set(node.kwargs.values()) - {1}:
            continue
        name = f"{weight.target}_transposed"
        path, _, attribute = name.rpartition(".")
        stored: Tensor = attrgetter(str(weight.target))(graph_module)
        graph_module.get_submodule(path).register_parameter(attribute, nn.Parameter(stored.detach().T.contiguous()))
        with graph.inserting_before(node):
            transposed = graph.get_attr(name)
            linear = graph.call_function(aten.linear.default, (x, transposed, bias))
        transposed.meta = {"val": weight.meta["val"].T}
        linear.meta = dict(node.meta)
        node.replace_all_uses_with(linear)
        graph.erase_node(node)
