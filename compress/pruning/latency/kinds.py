"""What a layer's time depends on besides its channels, and the layers of a network by that.

Two layers of one kind and as many channels take the same time: a table needs each kind once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from compress.modes import evaluating
from compress.pruning.cost import Costs
from compress.pruning.layers import is_depthwise, layout
from compress.pruning.shape import Channels, channels_of

Operator = Literal["conv", "depthwise", "conv_transpose", "linear", "attention"]


@dataclass(frozen=True)
class LayerKind:
    """All that decides a layer's time but its channels.

    `size` is what one example has besides channels: height and width, or the rows that a linear layer sees, or how many
    sequences there are and how many tokens of each attend to each other. `groups` is 1 but in grouped convolutions. Of
    attention, `head` is the channels of one head where heads go, `heads` is how many there are where channels of every
    head go.
    """

    operator: Operator
    size: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    head: int = 0
    heads: int = 0

    def plain(self) -> dict[str, Any]:
        """Plain data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> LayerKind:
        """The inverse of `plain`."""
        values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
        return cls(**values)


@dataclass(frozen=True)
class Layer:
    """One layer: `name` is its module's path; attention is named after the module that it is in."""

    name: str
    kind: LayerKind
    inputs: Channels
    outputs: Channels

    @property
    def groups(self) -> set[str]:
        """The groups that decide its channels."""
        return self.inputs.groups | self.outputs.groups

    @property
    def joint(self) -> bool:
        """Whether its inputs are its outputs."""
        return self.kind.operator in ("depthwise", "attention")


def layers_of(module: nn.Module, costs: Costs, example_inputs: Sequence[Tensor]) -> list[Layer]:
    """The layers with weights whose time depends on channels, and attention, in the order in which they run."""
    paths = {id(part): path for path, part in module.named_modules()}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: list[Layer] = []
    tokens: dict[str, tuple[int, int]] = {}

    def note(part: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if id(part.weight) not in names:  # computed anew for each call: it has no channels of its own
            return
        kind, sized = _kind(part, inputs[0]), costs.sized[names[id(part.weight)]]
        if kind.operator == "linear":
            shape = inputs[0].shape
            tokens[paths[id(part)]] = (prod(shape[:-2]), shape[-2] if len(shape) > 1 else 1)
        source, target = layout(part, "in"), layout(part, "out")
        assert target is not None
        outputs = channels_of(
            costs, sized, target.slots[0].dim, kind.groups if kind.operator == "conv_transpose" else 1
        )
        many = 1 if kind.operator in ("conv_transpose", "linear") else kind.groups
        given = outputs if source is None else channels_of(costs, sized, source.slots[0].dim, many)
        found.append(Layer(paths[id(part)], kind, given, outputs))

    parts = [part for part in module.modules() if layout(part, "in") is not None or is_depthwise(part)]
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    with ExitStack() as stack, evaluating(module), torch.no_grad():
        for part in parts:
            stack.enter_context(part.register_forward_hook(note))
        module(*(x[:1].to(device) for x in example_inputs))
    return found + _attention(costs, tokens)


def _kind(part: Any, x: Tensor) -> LayerKind:
    if not isinstance(part, _ConvNd):
        return LayerKind("linear", (prod(x.shape[:-1]),))
    operator: Operator = "conv_transpose" if part.transposed else "depthwise" if is_depthwise(part) else "conv"
    padding = part.padding if isinstance(part.padding, tuple) else _same(part)
    groups = 1 if operator == "depthwise" else part.groups
    return LayerKind(
        operator, tuple(x.shape[2:]), tuple(part.kernel_size), tuple(part.stride), padding, tuple(part.dilation), groups
    )


def _same(part: _ConvNd) -> tuple[int, ...]:
    """Padding that is given as a word, in numbers."""
    if part.padding == "valid":
        return (0,) * len(part.kernel_size)
    pairs = zip(part.dilation, part.kernel_size, strict=True)
    return tuple(dilation * (size - 1) // 2 for dilation, size in pairs)


def _attention(costs: Costs, tokens: Mapping[str, tuple[int, int]]) -> list[Layer]:
    """One more layer for each group of heads: its products of queries, keys and values, over as many tokens.

    Args:
        costs: of the network.
        tokens: (sequences, tokens in each) that each linear layer sees.
    """
    found = []
    for group in costs.groups.values():
        heads = group.heads
        if heads and group.name in tokens:
            channels, size = Channels(0, ((group.name, heads.count * heads.size / group.units),)), tokens[group.name]
            whole = LayerKind("attention", size, head=heads.size)
            kind = whole if group.whole_heads else LayerKind("attention", size, heads=heads.count)
            found.append(Layer(heads.path, kind, channels, channels))
    return found
