"""Pooling over all of height and width: written for ONNX as the mean that it is, and as the operator for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnx import GraphProto, TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from compress.exporting.graph import reads

_AXES: dict[Any, int] = {
    functional.adaptive_avg_pool1d: 1,
    functional.adaptive_avg_pool2d: 2,
    functional.adaptive_avg_pool3d: 3,
    torch.ops.aten.adaptive_avg_pool1d.default: 1,
    torch.ops.aten.adaptive_avg_pool2d.default: 2,
    torch.ops.aten.adaptive_avg_pool3d.default: 3,
}
"""Adaptive pools, as networks and as traced graphs call them, and over how many of the last axes they go."""


class PoolsAsMeans(TorchFunctionMode):
    """As long as the context lasts, adaptive average pools to a size of one are means.

    PyTorch keeps the order of the axes in memory, so that where channels lie last, as after a transposition in a Swin
    or ConvNeXt, a pool is exported with a gather by indices, computed from the shape, that moves nothing.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call `function`, or take the mean in its place."""
        given = dict(keywords or {})
        if function in _AXES:
            maps, size = _read(*arguments, **given)
            if _is_one(size):
                return maps.mean(list(range(-_AXES[function], 0)), keepdim=True)
        return function(*arguments, **given)


def _read(input: Tensor, output_size: Any) -> tuple[Tensor, Any]:
    """The arguments of an adaptive pool, by its own names of them."""
    return input, output_size


def _is_one(size: Any) -> bool:
    """Whether a size, or one for each axis, is 1 whatever the inputs are."""
    return all(isinstance(axis, int) and axis == 1 for axis in (size if isinstance(size, list | tuple) else [size]))


def pool_globally(graph: GraphProto) -> None:
    """Write a mean over height and width as GlobalAveragePool, which has an int8 kernel and is faster."""
    constants = {item.name: item for item in graph.initializer}
    known = (*graph.input, *graph.value_info)
    rank = {v.name: len(v.type.tensor_type.shape.dim) for v in known if v.type.tensor_type.HasField("shape")}
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        keep = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        if keep and rank.get(node.input[0]) == 4 and sorted(axis % 4 for axis in axes) == [2, 3]:
            pooled = helper.make_node("GlobalAveragePool", [node.input[0]], list(node.output), node.name)
            node.CopyFrom(pooled)
    used = {name for node in graph.node for name in reads(node)} | {item.name for item in graph.output}
    kept: list[TensorProto] = [item for item in graph.initializer if item.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
