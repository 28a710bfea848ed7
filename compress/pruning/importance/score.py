"""What the measures of this folder need of a network's weights, and their scores for every unit of every group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compress.errors import UsageError
from compress.pruning.groups import Group, Member, parameters_of
from compress.pruning.importance.batch_norm import batch_norm
from compress.pruning.importance.fpgm import fpgm
from compress.pruning.importance.lamp import lamp
from compress.pruning.importance.magnitude import magnitude
from compress.pruning.importance.random import random
from compress.pruning.layers import is_depthwise

LabelledBatch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs of the network, and the targets of the loss."""
Loss = Callable[[Tensor, Tensor], Tensor]
JOINED = 8
"""Batches for importance that make one for batch-norm statistics and for the loss, which are better over more."""


def joined(batches: Sequence[LabelledBatch]) -> list[LabelledBatch]:
    """Up to `JOINED` batches at a time as one; batches of other sizes (texts of other lengths) are not joined."""
    found: list[list[LabelledBatch]] = []
    for batch in batches:
        if not found or len(found[-1]) == JOINED or _sizes(found[-1][0]) != _sizes(batch):
            found.append([])
        found[-1].append(batch)
    return [
        (tuple(torch.cat(parts) for parts in zip(*(inputs for inputs, _ in part), strict=True)),
         torch.cat([targets for _, targets in part]))
        for part in found
    ]  # fmt: skip


def _sizes(batch: LabelledBatch) -> list[torch.Size]:
    inputs, targets = batch
    return [tensor.shape[1:] for tensor in (*inputs, targets)]


class Sliced:
    """The parameters of a network that hold a group's channels, and how they fall into units.

    With `readers`, only those that take the channels in, if there are any.
    """

    def __init__(self, module: nn.Module, group: Group, *, readers: bool = False) -> None:
        self.count = group.units
        self.tensors: list[nn.Parameter] = []
        self.units: list[Tensor] = []
        self._cuts: list[tuple[int, Tensor | None]] = []
        if readers:
            self._collect(module, [member for member in group.members if member.axis == "in"])
        if not self.tensors:
            self._collect(module, group.members)

    def _collect(self, module: nn.Module, members: Iterable[Member]) -> None:
        for member in members:
            for slot, tensor in parameters_of(module, member):
                self._add(tensor, slot.dim, member.indices, member.units)

    def _add(self, tensor: nn.Parameter, dim: int, indices: Sequence[int], units: Sequence[int]) -> None:
        # a grouped convolution's inputs share positions, which then belong to one unit
        unit_of = {index % tensor.shape[dim]: unit for index, unit in zip(indices, units, strict=True)}
        self.tensors.append(tensor)
        whole = list(unit_of) == list(range(tensor.shape[dim]))  # then there is nothing to copy
        self._cuts.append((dim, None if whole else torch.tensor(list(unit_of), device=tensor.device)))
        self.units.append(torch.tensor(list(unit_of.values())))

    def rows(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Slices of tensors that are shaped like `self.tensors` along the channels: (slices, numbers in one) each."""
        cuts = zip(tensors, self._cuts, strict=True)
        found = []
        for tensor, (dim, index) in cuts:
            part = tensor.detach() if index is None else tensor.detach().index_select(dim, index)
            found.append(part.movedim(dim, 0).reshape(part.shape[dim], -1))
        return found


def magnitude_scores(module: nn.Module, groups: Iterable[Group], norm: int) -> dict[str, Tensor]:
    """For each group by name the norm of each unit's weights, float64 (units,)."""
    found = {}
    for group in groups:
        sliced = Sliced(module, group)
        found[group.name] = magnitude(sliced.rows(sliced.tensors), sliced.units, sliced.count, norm)
    return found


def lamp_scores(module: nn.Module, groups: Iterable[Group]) -> dict[str, Tensor]:
    """For each group by name the share of each unit's weights in those that would outlive it, float64 (units,)."""
    return {name: lamp(norms) for name, norms in magnitude_scores(module, groups, 2).items()}


def fpgm_scores(module: nn.Module, groups: Iterable[Group]) -> dict[str, Tensor]:
    """For each group by name the distances of each unit's filters from their layers' others, float64 (units,).

    Filters are those of convolutions, linear layers and embeddings. A depthwise convolution passes channels on: it has
    too few numbers for each to say which are alike.

    Raises:
        UsageError: a group has units without a filter.
    """
    found = {}
    for group in groups:
        writers = [member for member in group.members if member.axis == "out" and _has_filters(module, member)]
        sliced = Sliced(module, replace(group, members=tuple(writers)))
        rows = zip(sliced.tensors, sliced.rows(sliced.tensors), sliced.units, strict=True)
        filters = [(row, units) for tensor, row, units in rows if tensor.dim() > 1]  # the others are biases
        found[group.name] = fpgm([row for row, _ in filters], [units for _, units in filters], group.units)
    return all_known(found, "fpgm", "are not made by filters")


def _has_filters(module: nn.Module, member: Member) -> bool:
    return member.dim is None and not is_depthwise(module.get_submodule(member.path))


def batch_norm_scores(module: nn.Module, groups: Iterable[Group]) -> dict[str, Tensor]:
    """For each group by name the mean |gamma| of each unit's batch norms, float64 (units,).

    Raises:
        UsageError: a group has units that go through no batch norm with a gamma.
    """
    found = {}
    for group in groups:
        scales, units = [], []
        for member in group.members:
            layer = module.get_submodule(member.path) if member.dim is None else None
            if isinstance(layer, _BatchNorm) and layer.weight is not None:
                scales.append(layer.weight.detach()[list(member.indices)])
                units.append(torch.tensor(member.units))
        found[group.name] = batch_norm(scales, units, group.units)
    return all_known(found, "batch_norm", "go through no batch norm")


def random_scores(groups: Sequence[Group], seed: int) -> dict[str, Tensor]:
    """For each group by name numbers drawn by the seed, float64 (units,)."""
    drawn = random([group.units for group in groups], seed)
    return {group.name: scores for group, scores in zip(groups, drawn, strict=True)}


def all_known(scores: Mapping[str, Tensor], importance: str, lack: str) -> dict[str, Tensor]:
    """The scores, if there is a number for each unit.

    Raises:
        UsageError: there is none for some, whose channels `lack` something.
    """
    unknown = [name for name, values in scores.items() if values.isnan().any()]
    if unknown:
        raise UsageError(
            f"prune: `importance: {importance}` says nothing of {', '.join(unknown)}, whose channels {lack}. "
            "Add them to `ignore`, or choose another importance"
        )
    return dict(scores)
