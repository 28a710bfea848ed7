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
from compress.pruning.depth import drop_blocks
from compress.pruning.groups import Chosen, Group
from compress.pruning.ignore import ignored_modules, is_under
from compress.pruning.importance.score import LabelledBatch, Loss
from compress.pruning.selection import OutOfReachError
from compress.pruning.settings import Pruning
from compress.pruning.surgery import cut, layer_widths
from compress.pruning.ties import Ties
from compress.pruning.timing import Timing, in_order
from compress.pruning.uniform import uniform_ties
from compress.pruning.verify import difference, untrustworthy

REASONS_SHOWN = 6


@dataclass(frozen=True)
class PruneLog:
    """What pruning did.

    `reached` is the share of `measure` that was kept, for `asked`; `before` and `after` hold `macs` (of one example)
    and `parameters`; `widths` the output channels of each prunable layer before and after; `fixed` names the layers
    that could not be pruned, with the reason; `dropped` the blocks that are gone, whose layers have 0 channels after.
    Where a time was asked, `measure` is `latency_p50_ms`, `asked` and `reached` are milliseconds, `timing` says more.
    """

    measure: str
    asked: float
    reached: float
    before: dict[str, int]
    after: dict[str, int]
    widths: dict[str, tuple[int, int]]
    fixed: dict[str, str]
    dropped: tuple[str, ...] = ()
    timing: Timing | None = None

    @property
    def order(self) -> tuple[str, ...]:
        """The layers of `widths` and `timing` in the order of the network."""
        return in_order(tuple(self.timing.layers) if self.timing else (), tuple(self.widths))

    def plain(self) -> dict[str, Any]:
        """Plain data, for a record, whose keys lose their order: therefore `order` is a list."""
        return {**asdict(self), "order": list(self.order)}


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
        batches: Small batches of training examples, for the importances that look at such.
        loss: The task's loss, (outputs, targets) -> mean over the batch, for those that need it.
        seed: Of the noise that groups are tried with, and of random importance.
        agree: Gives what the first of several processes chose, whose arithmetic may differ in the last bit.

    Raises:
        UsageError: nothing can be pruned, the share cannot be reached, a glob of `ignore` matches nothing, or the
            network cannot be traced.
        StageError: the loss on training examples is not a number.
    """
    groups, ties, fixed = groups_to_prune(module, example_inputs, settings, seed)
    share = share_left(module, groups, example_inputs, settings.share.measure)
    try:
        chosen = choose_units(module, groups, settings, share, batches=batches, loss=loss, seed=seed, ties=ties)
        removed = agree(chosen)
    except OutOfReachError as error:
        raise UsageError(_out_of_reach(error, settings, groups, fixed)) from error
    done = carry_out(module, groups, removed, example_inputs, seed)
    measure = settings.share.measure
    return PruneLog(
        measure=measure,
        asked=settings.share.share,
        reached=done.share(measure) if measure in done.before else share(removed),
        fixed=fixed,
        **vars(done),
    )


@dataclass(frozen=True)
class Done:
    """A cut that was made: the fields of `PruneLog` of these names."""

    before: dict[str, int]
    after: dict[str, int]
    widths: dict[str, tuple[int, int]]
    dropped: tuple[str, ...]

    def share(self, measure: str) -> float:
        """What is left of `macs` or `parameters`."""
        return self.after[measure] / self.before[measure]


def carry_out(
    module: nn.Module,
    groups: Sequence[Group],
    removed: Chosen,
    example_inputs: Sequence[Tensor],
    seed: int,
    dropped: Sequence[str] = (),
) -> Done:
    """Take units, then blocks, out of `module`, in place, and count before and after.

    Raises:
        UsageError: the units cannot go together.
    """
    check_together(module, groups, removed, example_inputs, seed)
    example = tuple(tensor[:1] for tensor in example_inputs)
    before, wide = sizes(module, example), layer_widths(module, groups)
    cut(module, groups, removed)
    narrow = layer_widths(module, groups)
    drop_blocks(module, dropped)
    widths = {name: (wide[name], 0 if is_under(name, dropped) else narrow[name]) for name in wide}
    return Done(before, sizes(module, example), widths, tuple(dropped))


def groups_to_prune(
    module: nn.Module, example_inputs: Sequence[Tensor], settings: Pruning, seed: int = 0
) -> tuple[list[Group], Ties, dict[str, str]]:
    """The groups to prune, those of them that keep the same share, and why the other layers stay as they are.

    Raises:
        UsageError: nothing can be pruned, a glob of `ignore` matches nothing, or the network cannot be traced.
    """
    groups, fixed = prunable_groups(module, example_inputs, settings.ignore, seed)
    ties, unfit = uniform_ties(module, groups) if settings.uniform else ({}, {})
    groups, fixed = [group for group in groups if group.name not in unfit], fixed | unfit
    _check_any(groups, fixed)
    return groups, ties, fixed


def check_together(
    module: nn.Module, groups: Sequence[Group], removed: Chosen, example_inputs: Sequence[Tensor], seed: int
) -> None:
    """UsageError if the network without the units `removed` is not the network in which they are silent."""
    reason = difference(module, groups, removed, example_inputs, seed)
    if reason:
        raise UsageError(f"prune: the layers {', '.join(removed)} cannot be pruned together: {reason}. Ignore some")


def prunable_groups(
    module: nn.Module, example_inputs: Sequence[Tensor], ignore: Iterable[str] = (), seed: int = 0
) -> tuple[list[Group], dict[str, str]]:
    """The groups that can be pruned, and for each other convolution or linear layer why it cannot.

    Raises:
        UsageError: the network cannot be traced, or a glob of `ignore` matches nothing.
    """
    ignored = ignored_modules(module, ignore)
    groups, fixed = trace_groups(module, example_inputs)
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
        f"prune.keep.{settings.share.measure}: a share of {settings.share.share:g} cannot be reached; the least that "
        f"{floors} leave is {least:g}.{kept} Ask for more, or lower these floors"
    )


def _check_any(groups: Sequence[Group], fixed: Mapping[str, str]) -> None:
    if not groups:
        raise UsageError(f"prune: no layer of the network can be pruned. {_reasons(fixed) or 'It has no layers'}")


def _reasons(fixed: Mapping[str, str]) -> str:
    shown = [f"{name} ({reason})" for name, reason in list(fixed.items())[:REASONS_SHOWN]]
    more = len(fixed) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def sizes(module: nn.Module, example: tuple[Tensor, ...]) -> dict[str, int]:
    """MACs of one example, and parameters."""
    return {"macs": count_macs(module, example), "parameters": count_parameters(module)}
