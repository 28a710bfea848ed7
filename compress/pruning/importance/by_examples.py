"""Scores of every unit of every group by what the network does with training examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from compress.errors import StageError
from compress.floats import widest
from compress.modes import evaluating
from compress.pruning.groups import Group, Member
from compress.pruning.importance.activation import activation
from compress.pruning.importance.hessian import hessian
from compress.pruning.importance.score import LabelledBatch, Loss, Sliced, all_known
from compress.pruning.importance.taylor import taylor
from compress.pruning.layers import layout

Change = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], int], Tensor]
"""From slices of weights, of gradients, their units and the number of units to what the loss changes by."""


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
    return _gradient_scores(module, groups, batches, loss, taylor)


def hessian_scores(
    module: nn.Module, groups: Iterable[Group], batches: Iterable[LabelledBatch], loss: Loss
) -> dict[str, Tensor]:
    """For each group by name the mean over batches of the loss's second-order change, float64 (units,).

    Summed over the weights that read a unit, as `taylor_scores` is, and with the same errors. Batches of 8 rank the
    channels of trained digits networks as single examples do, for an eighth of the work.
    """
    return _gradient_scores(module, groups, batches, loss, hessian)


def _gradient_scores(
    module: nn.Module, groups: Iterable[Group], batches: Iterable[LabelledBatch], loss: Loss, change: Change
) -> dict[str, Tensor]:
    sliced = {group.name: Sliced(module, group, readers=True) for group in groups}
    parameters = list({id(tensor): tensor for part in sliced.values() for tensor in part.tensors}.values())
    totals = {name: torch.zeros(part.count, dtype=torch.float64) for name, part in sliced.items()}
    count = 0
    with evaluating(module), _attributes_kept(module), _differentiable(parameters):
        for inputs, targets in batches:
            value = loss(module(*inputs), targets)
            if not torch.isfinite(value):
                raise StageError(f"prune: the loss is {value.item()} on training examples")
            found = torch.autograd.grad(value, parameters, allow_unused=True)
            gradients = {id(p): torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)}
            for name, part in sliced.items():
                of_part = part.rows([gradients[id(tensor)] for tensor in part.tensors])
                totals[name] += change(part.rows(part.tensors), of_part, part.units, part.count)
            count += 1
    _check_any(count)
    return {name: total / count for name, total in totals.items()}


def activation_scores(
    module: nn.Module, groups: Iterable[Group], batches: Iterable[LabelledBatch]
) -> dict[str, Tensor]:
    """For each group by name the mean size of each unit where it is read, float64 (units,).

    It is seen where convolutions and linear layers take it in: behind norm and activation function, as in the paper.
    What a convolution before a batch norm gives is of a size that the norm takes away (rank correlation with the
    measured change of the loss on three trained digits networks: 0.28 to 0.43 where it is read, -0.12 to 0 there).

    The module is in evaluation mode meanwhile.

    Raises:
        StageError: an activation is not a number.
        UsageError: a group has units that no such layer takes in.
        ValueError: there are no batches.
    """
    readers = [(group, [member for member in group.members if _reads(module, member)]) for group in groups]
    sizes = _input_sizes(module, {member.path for _, members in readers for member in members}, batches)
    found = {}
    for group, members in readers:
        seen = [member for member in members if member.path in sizes]
        of_members = [sizes[member.path][list(member.indices)] for member in seen]
        found[group.name] = activation(of_members, [torch.tensor(member.units) for member in seen], group.units)
    return all_known(found, "activation", "no layer takes in")


def _reads(module: nn.Module, member: Member) -> bool:
    return member.dim is None and member.axis == "in" and layout(module.get_submodule(member.path), "in") is not None


@torch.no_grad()
def _input_sizes(module: nn.Module, paths: Iterable[str], batches: Iterable[LabelledBatch]) -> dict[str, Tensor]:
    """For each layer by path that is called the mean |input| of each channel, float64 (channels,)."""
    totals: dict[str, Tensor] = {}
    calls: dict[str, int] = {}

    def add(path: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        channels = inputs[0].movedim(1 if isinstance(layer, _ConvNd) else -1, 0).flatten(1)
        mean = channels.abs().mean(1, dtype=widest(channels.device)).cpu().double()
        totals[path] = totals.get(path, torch.zeros_like(mean)) + mean
        calls[path] = calls.get(path, 0) + 1

    hooks = [module.get_submodule(path).register_forward_pre_hook(partial(add, path)) for path in paths]
    count = 0
    try:
        with evaluating(module):
            for inputs, _ in batches:
                module(*inputs)
                count += 1
    finally:
        for hook in hooks:
            hook.remove()
    _check_any(count)
    for path, total in totals.items():
        if not total.isfinite().all():
            raise StageError(f"prune: {path} takes in {total.sum().item()} on training examples")
    return {path: total / calls[path] for path, total in totals.items()}


def _check_any(batches: int) -> None:
    if not batches:
        raise ValueError("importance that looks at data needs at least one batch of training examples")


@contextmanager
def _attributes_kept(module: nn.Module) -> Iterator[None]:
    """What a forward pass leaves on modules, with its graph, goes again: a network that holds such cannot be copied."""
    before = {part: dict(vars(part)) for part in module.modules()}
    try:
        yield
    finally:
        for part, attributes in before.items():
            own = vars(part)
            left = [name for name, value in own.items() if value is not attributes.get(name) and _has_graph(value)]
            for name in left:
                if name in attributes:
                    own[name] = attributes[name]
                else:
                    del own[name]


def _has_graph(value: object) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.grad_fn is not None for leaf in pytree.tree_leaves(value))


@contextmanager
def _differentiable(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Gradients for `parameters`; as before afterwards."""
    wanted = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, before in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(before)
