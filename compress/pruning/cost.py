"""What a network costs without some of its units, counted from the sizes of its layers: it is run once, not anew.

A layer's multiply-accumulates are its weight's size times the positions at which that is applied. What else multiplies
matrices is attention, whose products grow with the heads that are left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from compress.models.count import count_macs
from compress.modes import evaluating
from compress.pruning.groups import Chosen, Group, parameters_of
from compress.pruning.layers import is_depthwise, layout

Numbers = npt.NDArray[np.int64]


@dataclass
class Sized:
    """A parameter: its sizes, and for each dimension and group the unit that each slice belongs to (-1: to none)."""

    shape: tuple[int, ...]
    unit_of: dict[tuple[int, str], Numbers] = field(default_factory=dict)

    def claim(self, dim: int, group: str, indices: Sequence[int], units: Sequence[int]) -> None:
        """Say whose slices are which; of a grouped convolution's inputs those of one group are there."""
        owner = self.unit_of.setdefault((dim, group), np.full(self.shape[dim], -1, dtype=np.int64))
        owner[np.asarray(indices) % self.shape[dim]] = units

    def without(self, removed: Chosen) -> tuple[int, ...]:
        """The sizes that are left."""
        left = list(self.shape)
        for (dim, group), owner in self.unit_of.items():
            if removed.get(group):
                left[dim] -= int(np.isin(owner, removed[group]).sum())
        return tuple(left)


class Costs:
    """Counts of a network without units of its groups: of layers and parameters what `cut` and a count would say.

    What else multiplies is taken for attention, and shrinks with the heads that are left.

    Args:
        module: the network, whole.
        groups: its groups.
        example_inputs: inputs of at least one example; the first is counted.
    """

    def __init__(self, module: nn.Module, groups: Sequence[Group], example_inputs: Sequence[Tensor]) -> None:
        self.groups = {group.name: group for group in groups}
        self.sized: dict[str, Sized] = {}
        names: dict[int, str] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if names.setdefault(id(parameter), name) == name:
                self.sized[name] = Sized(tuple(parameter.shape))
        for group in groups:
            for member in group.members:
                for slot, tensor in parameters_of(module, member):
                    dim = slot.dim % tensor.dim()
                    self.sized[names[id(tensor)]].claim(dim, group.name, member.indices, member.units)
        self.positions = {names[weight]: count for weight, count in positions(module, example_inputs).items()}
        total = count_macs(module, tuple(example_inputs))
        self.rest = total - sum(self.layer_macs({}).values())
        heads = {name: group for name, group in self.groups.items() if group.heads}
        self.attention = {name: group.heads.count * group.heads.size for name, group in heads.items() if group.heads}

    def layer_macs(self, removed: Chosen) -> dict[str, int]:
        """Multiply-accumulates of one example in each convolution and linear layer, by the name of its weight."""
        return {name: count * prod(self.sized[name].without(removed)) for name, count in self.positions.items()}

    def macs(self, removed: Chosen) -> int:
        """Multiply-accumulates of one example."""
        rest = float(self.rest)
        for name, width in self.attention.items():
            share = width / sum(self.attention.values())
            rest -= self.rest * share * len(removed.get(name, ())) / self.groups[name].units
        return sum(self.layer_macs(removed).values()) + round(rest)

    def parameters(self, removed: Chosen) -> int:
        """Numbers that training changes, shared ones once."""
        return sum(prod(sized.without(removed)) for sized in self.sized.values())

    def channels(self, removed: Chosen) -> int:
        """Channels of the groups, coupled layers once."""
        return sum((group.units - len(removed.get(name, ()))) * group.unit_size for name, group in self.groups.items())


def positions(module: nn.Module, example_inputs: Sequence[Tensor]) -> dict[int, int]:
    """At how many places of an example each layer with a weight of its own is applied, by the id of that weight."""
    found: dict[int, int] = defaultdict(int)

    def note(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(layer.weight, nn.Parameter):  # computed anew for each call: its size is not ours to count
            return
        shape, channels = output.shape, layout(layer, "out")
        if getattr(layer, "transposed", False):
            shape, channels = inputs[0].shape, layout(layer, "in")
        assert channels is not None
        found[id(layer.weight)] += prod(shape) // channels.channels

    layers = [part for part in module.modules() if layout(part, "in") is not None or is_depthwise(part)]
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    with ExitStack() as stack, evaluating(module), torch.no_grad():
        for layer in layers:
            stack.enter_context(layer.register_forward_hook(note))
        module(*(x[:1].to(device) for x in example_inputs))
    return dict(found)
