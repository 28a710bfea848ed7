"""What torch-pruning's dependency graph says about a network, as plain data.

Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (arXiv:2301.12900). The graph is traced through
autograd on a copy; only which channels hang together is taken from it. Importance, selection and surgery are ours, and
`compress.pruning.verify` tries each group before it is believed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compress.errors import UsageError
from compress.pruning.groups import Member, RawGroup
from compress.pruning.layers import Axis, SelfPruning, is_depthwise, layout

ROOTS = (nn.modules.conv._ConvNd, nn.Linear)


def trace_groups(module: nn.Module, example_inputs: Sequence[Tensor]) -> list[RawGroup]:
    """Every set of coupled layers of `module`, in the order of its layers; `module` is left as it was.

    Raises:
        UsageError: the network fails on the example, or autograd cannot see through it.
    """
    traced = copy.deepcopy(module).eval().requires_grad_(True)
    _check_traceable(traced, example_inputs)
    for part in traced.modules():
        if isinstance(part, SelfPruning):
            part.forward = partial(_opaque, part.forward)
    graph = _build(traced, example_inputs)
    names = {part: name for name, part in traced.named_modules()}
    nodes = graph.module2node
    order = [part for part in traced.modules() if part in nodes and isinstance(part, ROOTS)]
    order = [part for part in order if not isinstance(part, SelfPruning)]
    seen: set[nn.Module] = set()
    found = []
    for part in order:
        if part in seen:
            continue
        pruner = graph.get_pruner_of_module(part)
        items = graph.get_pruning_group(part, pruner.prune_out_channels, list(range(pruner.get_out_channels(part))))
        found.append(_read(graph, names, names[part], pruner.get_out_channels(part), items))
        seen |= {items[k].dep.target.module for k in range(len(items)) if _sides(graph, items[k].dep)[0]}
    return found


def _check_traceable(module: nn.Module, inputs: Sequence[Tensor]) -> None:
    try:
        with torch.enable_grad():
            outputs = [leaf for leaf in pytree.tree_leaves(module(*inputs)) if isinstance(leaf, Tensor)]
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise UsageError(f"prune: the network fails on an example of shape {shapes}: {_text(error)}") from error
    if not outputs or not all(output.requires_grad for output in outputs):
        raise UsageError(
            "prune: the network cannot be traced: its output does not lead back to its weights. Its forward must not "
            "use torch.no_grad, detach, .data or NumPy, and must return tensors"
        )


def _build(module: nn.Module, inputs: Sequence[Tensor]) -> Any:
    """torch-pruning's graph; its advice about unwrapped parameters is dropped, since groups are tried anyway."""

    class Own(tp.BasePruningFunc):  # type: ignore[misc]
        """A module that prunes itself: its inputs and its outputs are separate axes."""

        def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
            return layer

        def prune_in_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
            return layer

        def get_out_channels(self, layer: Any) -> int:
            return int(layer.out_channels)

        def get_in_channels(self, layer: Any) -> int:
            return int(layer.in_channels)

    own = {type(part): Own() for part in module.modules() if isinstance(part, SelfPruning)}
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            return tp.DependencyGraph().build_dependency(
                module, tuple(inputs), customized_pruners=own or None, verbose=False
            )
    except Exception as error:
        raise UsageError(f"prune: torch-pruning cannot trace the network: {_text(error)}") from error


class _Opaque(torch.autograd.Function):
    """One node of the graph, whatever happens inside, between a module's input and its output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        return compute(x.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise AssertionError("the graph is traced, not differentiated")


def _opaque(compute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return cast(Tensor, _Opaque.apply(x, compute))  # type: ignore[no-untyped-call]


def _sides(graph: Any, dep: Any) -> tuple[bool, bool]:
    """Whether an item of a group takes outputs, and whether it takes inputs, of its layer."""
    return graph.is_out_channel_pruning_fn(dep.handler), graph.is_in_channel_pruning_fn(dep.handler)


def _read(graph: Any, names: dict[nn.Module, str], root: str, channels: int, items: Any) -> RawGroup:
    group = RawGroup(root, channels)
    for number in range(len(items)):
        item = items[number]
        node, part = item.dep.target, item.dep.target.module
        is_out, is_in = _sides(graph, item.dep)
        if node.type == tp.ops.OPTYPE.OUTPUT or (is_out and not node.outputs):
            group.fixed = "its channels are the network's output"
        indices, roots = tuple(item.idxs), tuple(item.root_idxs)
        if isinstance(part, nn.Parameter):
            group.members.append(Member(graph._param_to_name[part], "out", indices, roots, node.pruning_dim))
        elif part in names and (is_in or is_out) and _has_channels(part):
            axis: Axis = "out" if is_out else "in"
            if layout(part, axis) is None and not isinstance(part, SelfPruning):
                group.fixed = group.fixed or f"{names[part]} ({type(part).__name__}) cannot lose channels"
            group.members.append(Member(names[part], axis, indices, roots))
    return group


def _has_channels(part: nn.Module) -> bool:
    """Whether a traced module is a layer, rather than an activation that torch-pruning passes through."""
    if isinstance(part, nn.PReLU):
        return part.num_parameters > 1
    return isinstance(part, SelfPruning) or any(True for _ in part.parameters(recurse=False)) or _is_joint(part)


def _is_joint(part: nn.Module) -> bool:
    return is_depthwise(part) or (not isinstance(part, ROOTS) and layout(part, "out") is not None)


def _text(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
