"""Trying a group before it is believed: does removing some of it give what silencing it gives?

A traced graph can be wrong about code that it cannot see through (fixed slices, channel shuffles, means over channels),
and then a pruned network computes nonsense without failing. Each group is tried on a copy with perturbed weights.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from compress.pruning.groups import Chosen, Group
from compress.pruning.masked import silence
from compress.pruning.surgery import cut

TOLERANCE = 1e-3
"""Largest difference between pruned and silenced, in units of the largest output. Float32 leaves about 1e-5; a channel
that is taken for its neighbour about 1e-1."""


def untrustworthy(
    module: nn.Module, groups: Sequence[Group], example_inputs: Sequence[Tensor], seed: int
) -> dict[str, str]:
    """For each group that cannot be pruned by itself or with the others the reason, by the group's name.

    All are tried at once; only if that fails are halves tried, so that the usual network costs two forward passes.
    """
    draw = random.Random(seed)
    trial = {group.name: [draw.randrange(group.units)] for group in groups}

    faults = _faults(module, groups, trial, example_inputs, seed)
    trusted: list[Group] = [group for group in groups if group.name not in faults]
    if not faults or difference(module, trusted, trial, example_inputs, seed) is None:
        return faults
    candidates, trusted = trusted, []
    for group in candidates:
        reason = difference(module, [*trusted, group], trial, example_inputs, seed)
        if reason is None:
            trusted.append(group)
        else:
            faults[group.name] = reason
    return faults


def _faults(
    module: nn.Module, suspects: Sequence[Group], trial: Chosen, example_inputs: Sequence[Tensor], seed: int
) -> dict[str, str]:
    """What is wrong with single groups, found by trying them together, then in halves."""
    reason = difference(module, suspects, trial, example_inputs, seed) if suspects else None
    if reason is None:
        return {}
    if len(suspects) == 1:
        return {suspects[0].name: reason}
    half = len(suspects) // 2
    halves = (suspects[:half], suspects[half:])
    return {name: text for part in halves for name, text in _faults(module, part, trial, example_inputs, seed).items()}


def difference(
    module: nn.Module, groups: Sequence[Group], removed: Chosen, example_inputs: Sequence[Tensor], seed: int
) -> str | None:
    """What is wrong once `removed` is taken out of `module`; None if it then answers as its silenced double.

    Both are judged with the same noise on all parameters, and only one copy exists at a time.
    """
    if not groups:
        return None
    try:
        found = _answers_without(perturbed(module, seed), groups, removed, example_inputs)
        expected = answers(silence(perturbed(module, seed), groups, removed), example_inputs)
    except Exception as error:
        text = str(error).strip().splitlines()
        return f"without some of its channels the network fails: {text[0] if text else type(error).__name__}"
    return disagreement(found, expected)


def disagreement(given: Sequence[Tensor], expected: Sequence[Tensor]) -> str | None:
    """How outputs differ from those expected, in words; None if they agree within `TOLERANCE` of the largest."""
    for found, wanted in zip(given, expected, strict=True):
        if found.shape != wanted.shape:
            return f"the output's shape would become {tuple(found.shape)} from {tuple(wanted.shape)}"
        scale = wanted.abs().max().item() or 1.0
        error = (found - wanted).abs().max().item() / scale
        if not error <= TOLERANCE:
            return (
                "removing its channels is not the same as silencing them "
                "(they are sliced, shuffled, reshaped or averaged in a way that cannot follow)"
            )
    return None


def _answers_without(
    module: nn.Module, groups: Sequence[Group], removed: Chosen, inputs: Sequence[Tensor]
) -> list[Tensor]:
    cut(module, groups, removed)
    return answers(module, inputs)


@torch.no_grad()
def answers(module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs in evaluation mode, with the global random state left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = pytree.tree_leaves(module.eval()(*inputs))
    return [output for output in outputs if isinstance(output, Tensor)]


@torch.no_grad()
def perturbed(module: nn.Module, seed: int) -> nn.Module:
    """A copy with noise on all parameters, so that channels which happen to be alike or silent can be told apart."""
    copied = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(seed)
    for parameter in copied.parameters():
        if parameter.is_floating_point():
            size = max(parameter.float().square().mean().sqrt().item(), 0.05)
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(noise.mul_(0.5 * size))
    return copied
