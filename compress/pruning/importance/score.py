"""The importance of every unit of every group of a network, by one of the measures of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compress.errors import StageError
from compress.pruning.groups import Group, Member
from compress.pruning.importance.magnitude import magnitude
from compress.pruning.importance.taylor import taylor
from compress.pruning.layers import Slot, layout

LabelledBatch = tuple[tuple[Tensor, ...], Tensor]
"""Inputs of the network, and the targets of the loss."""
Loss = Callable[[Tensor, Tensor], Tensor]


class Sliced:
    """The parameters of a network that hold a group's channels, and how they fall into units.

    With `readers`, only those that take the channels in, if there are any.
    """

    def __init__(self, module: nn.Module, group: Group, *, readers: bool = False) -> None:
        self.count = group.units
        self.tensors: list[nn.Parameter] = []
        self.units: list[Tensor] = []
        self._cuts: list[tuple[int, Tensor]] = []
        if readers:
            self._collect(module, [member for member in group.members if member.axis == "in"])
        if not self.tensors:
            self._collect(module, group.members)

    def _collect(self, module: nn.Module, members: Iterable[Member]) -> None:
        for member in members:
            slots: tuple[Slot, ...]
            if member.dim is not None:
                owner, _, name = member.path.rpartition(".")
                layer, slots = module.get_submodule(owner), (Slot(name, member.dim),)
            else:
                layer = module.get_submodule(member.path)
                found = layout(layer, member.axis)
                slots = found.slots if found else ()
            for slot in slots:
                tensor = getattr(layer, slot.name)
                if isinstance(tensor, nn.Parameter):
                    self._add(tensor, slot.dim, member.indices, member.units)

    def _add(self, tensor: nn.Parameter, dim: int, indices: Sequence[int], units: Sequence[int]) -> None:
        # a grouped convolution's inputs share positions, which then belong to one unit
        unit_of = {index % tensor.shape[dim]: unit for index, unit in zip(indices, units, strict=True)}
        self.tensors.append(tensor)
        self._cuts.append((dim, torch.tensor(list(unit_of), device=tensor.device)))
        self.units.append(torch.tensor(list(unit_of.values())))

    def rows(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Slices of tensors that are shaped like `self.tensors` along the channels: (slices, numbers in one) each."""
        cuts = zip(tensors, self._cuts, strict=True)
        return [
            tensor.detach().index_select(dim, index).movedim(dim, 0).reshape(len(index), -1)
            for tensor, (dim, index) in cuts
        ]


def magnitude_scores(module: nn.Module, groups: Iterable[Group], norm: int) -> dict[str, Tensor]:
    """For each group by name the norm of each unit's weights, float64 (units,)."""
    found = {}
    for group in groups:
        sliced = Sliced(module, group)
        found[group.name] = magnitude(sliced.rows(sliced.tensors), sliced.units, sliced.count, norm)
    return found


def taylor_scores(
    module: nn.Module, groups: Iterable[Group], batches: Iterable[LabelledBatch], loss: Loss
) -> dict[str, Tensor]:
    """For each group by name the mean over batches of the loss's first-order change, float64 (units,).

    A unit is gone exactly when all weights that read it are zero, so these are what the change is summed over. Those
    that write it would count the same change once more, distorted by the norms in between (rank correlation with the
    measured change on trained digits networks: 0.96 to 0.98 instead of 0.75 to 0.91). Small batches are better, since
    gradients of a trained network cancel over large ones.

    Gradients are taken in evaluation mode; the module's own gradients and modes are left as they were.

    Raises:
        StageError: the loss is not a number.
        ValueError: there are no batches.
    """
    sliced = {group.name: Sliced(module, group, readers=True) for group in groups}
    parameters = list({id(tensor): tensor for part in sliced.values() for tensor in part.tensors}.values())
    totals = {name: torch.zeros(part.count, dtype=torch.float64) for name, part in sliced.items()}
    count = 0
    with _differentiable(module, parameters):
        for inputs, targets in batches:
            value = loss(module(*inputs), targets)
            if not torch.isfinite(value):
                raise StageError(f"prune: the loss of the unpruned network is {value.item()} on training examples")
            found = torch.autograd.grad(value, parameters, allow_unused=True)
            gradients = {id(p): torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)}
            for name, part in sliced.items():
                of_part = part.rows([gradients[id(tensor)] for tensor in part.tensors])
                totals[name] += taylor(part.rows(part.tensors), of_part, part.units, part.count)
            count += 1
    if not count:
        raise ValueError("taylor importance needs at least one batch of training examples")
    return {name: total / count for name, total in totals.items()}


@contextmanager
def _differentiable(module: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Evaluation mode with gradients for `parameters`; as before afterwards."""
    modes = {part: part.training for part in module.modules()}
    wanted = [parameter.requires_grad for parameter in parameters]
    module.eval()
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, before in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(before)
        for part, training in modes.items():
            part.training = training
