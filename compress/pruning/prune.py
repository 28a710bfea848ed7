"""Pruning a network in place: find what hangs together, weigh it, choose, cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.count import count_macs, count_parameters
from compress.pruning.choose import choose_units
from compress.pruning.cost import Costs
from compress.pruning.dependency import trace_groups
from compress.pruning.groups import Chosen, Group, form_groups
from compress.pruning.heads import find_heads
from compress.pruning.ignore import ignored_modules, is_under
from compress.pruning.importance.score import LabelledBatch, Loss
from compress.pruning.selection import OutOfReachError
from compress.pruning.settings import Pruning
from compress.pruning.surgery import cut, layer_widths
from compress.pruning.verify import difference, perturbed, untrustworthy

REASONS_SHOWN = 6


@dataclass(frozen=True)
class PruneLog:
    """What pruning did.

    `reached` is the share of `measure` that was kept, for `asked`; `before` and `after` hold `macs` (of one example)
    and `parameters`; `widths` the output channels of each prunable layer before and after; `fixed` names the layers
    that could not be pruned, with the reason.
    """

    measure: str
    asked: float
    reached: float
    before: dict[str, int]
    after: dict[str, int]
    widths: dict[str, tuple[int, int]]
    fixed: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """Plain data, for a record."""
        return asdict(self)


def prune_module(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    settings: Pruning,
    *,
    batches: Sequence[LabelledBatch] = (),
    loss: Loss | None = None,
    seed: int = 0,
    agree: Callable[[dict[str, list[int]]], dict[str, list[int]]] = dict,
) -> PruneLog:
    """Remove channels from `module`, in place, until the share that `settings.keep` names is left.

    Args:
        module: Its modes are kept; its parameters become new, smaller ones where channels go.
        example_inputs: Inputs of at least one example, for tracing and counting.
        settings: What to remove and how much.
        batches: Small batches of training examples; `taylor` needs them.
        loss: The task's loss, (outputs, targets) -> mean over the batch; `taylor` needs it.
        seed: Of the noise that groups are tried with.
        agree: Gives what the first of several processes chose, whose arithmetic may differ in the last bit.

    Raises:
        UsageError: nothing can be pruned, the share cannot be reached, a glob of `ignore` matches nothing, or the
            network cannot be traced.
        StageError: the loss on training examples is not a number.
    """
    groups, fixed = prunable_groups(module, example_inputs, settings.ignore, seed)
    _check_any(groups, fixed)
    share = share_left(module, groups, example_inputs, settings.keep.measure)
    try:
        removed = agree(choose_units(module, groups, settings, share, batches=batches, loss=loss))
    except OutOfReachError as error:
        raise UsageError(_out_of_reach(error, settings, groups, fixed)) from error
    reason = difference(perturbed(module, seed), groups, removed, example_inputs)
    if reason:
        raise UsageError(f"prune: the layers {', '.join(removed)} cannot be pruned together: {reason}. Ignore some")
    example = tuple(tensor[:1] for tensor in example_inputs)
    before, wide = _sizes(module, example), layer_widths(module, groups)
    cut(module, groups, removed)
    after, narrow = _sizes(module, example), layer_widths(module, groups)
    measure = settings.keep.measure
    return PruneLog(
        measure=measure,
        asked=settings.keep.share,
        reached=after[measure] / before[measure] if measure in before else share(removed),
        before=before,
        after=after,
        widths={name: (wide[name], narrow[name]) for name in wide},
        fixed=fixed,
    )


def prunable_groups(
    module: nn.Module, example_inputs: Sequence[Tensor], ignore: Iterable[str] = (), seed: int = 0
) -> tuple[list[Group], dict[str, str]]:
    """The groups that can be pruned, and for each other convolution or linear layer why it cannot.

    Raises:
        UsageError: the network cannot be traced, or a glob of `ignore` matches nothing.
    """
    ignored = ignored_modules(module, ignore)
    groups, fixed = form_groups(module, trace_groups(module, example_inputs), find_heads(module))
    for group in list(groups):
        outputs = [member.path for member in group.members if member.axis == "out"]
        hit = next((path for path in outputs if is_under(path, ignored)), None)
        if hit is not None:
            fixed[group.name] = "it is ignored" if hit == group.name else f"it is coupled with {hit}, which is ignored"
            groups.remove(group)
    found = untrustworthy(module, groups, example_inputs, seed)
    return [group for group in groups if group.name not in found], fixed | found


def share_left(
    module: nn.Module, groups: Sequence[Group], example_inputs: Sequence[Tensor], measure: str
) -> Callable[[Chosen], float]:
    """A function from removed units to the share of `measure` (`macs`, `parameters`, `channels`) that is left.

    Raises:
        UsageError: there is nothing of it.
    """
    count: Callable[[Chosen], int] = getattr(Costs(module, groups, example_inputs), measure)
    total = count({})
    if not total:
        raise UsageError(f"prune: the network has no {measure} to prune")
    return lambda removed: count(removed) / total


def _out_of_reach(error: OutOfReachError, settings: Pruning, groups: Sequence[Group], fixed: Mapping[str, str]) -> str:
    floors = f"`minimum_share` {settings.minimum_share:g} and `round_to` {settings.round_to}"
    if error.least == 1:
        widest = max(group.channels for group in groups)
        return (
            f"prune: nothing can be removed under {floors}: the widest prunable layer has {widest} channels. "
            "Choose a smaller `round_to`"
        )
    least = math.ceil(error.least * 1000) / 1000
    kept = f" Not prunable: {_reasons(fixed)}." if fixed else ""
    return (
        f"prune.keep.{settings.keep.measure}: a share of {settings.keep.share:g} cannot be reached; the least that "
        f"{floors} leave is {least:g}.{kept} Ask for more, or lower these floors"
    )


def _check_any(groups: Sequence[Group], fixed: Mapping[str, str]) -> None:
    if not groups:
        raise UsageError(f"prune: no layer of the network can be pruned. {_reasons(fixed) or 'It has no layers'}")


def _reasons(fixed: Mapping[str, str]) -> str:
    shown = [f"{name} ({reason})" for name, reason in list(fixed.items())[:REASONS_SHOWN]]
    more = len(fixed) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _sizes(module: nn.Module, example: tuple[Tensor, ...]) -> dict[str, int]:
    return {"macs": count_macs(module, example), "parameters": count_parameters(module)}
