"""Pruning a network in place: find what hangs together, weigh it, choose, cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError
from compress.pruning.choose import check_reach, choose_units
from compress.pruning.cost import Costs
from compress.pruning.groups import Chosen, Group
from compress.pruning.importance.score import LabelledBatch, Loss
from compress.pruning.phases import Recall, anew
from compress.pruning.prunable import Prunable, reasons
from compress.pruning.selection import OutOfReachError
from compress.pruning.settings import Pruning
from compress.pruning.timing import Timing, in_order


@dataclass(frozen=True)
class PruneLog:
    """What pruning did.

    `reached` is the share of `measure` that was kept, for `asked`; `before` and `after` hold `macs` (of one example)
    and `parameters`; `widths` the output channels of each prunable layer before and after; `fixed` names the layers
    that could not be pruned, with the reason; `dropped` the blocks that are gone, whose layers have 0 channels after.
    Where a time was asked, `measure` is `latency_p50_ms`, `asked` and `reached` are milliseconds, `timing` says more.
    `reconstructed` is, for each layer that lost what it read, the squared error of its outputs over what that would be
    had the others not taken over.
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
    reconstructed: dict[str, float] = field(default_factory=dict)

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
    spent: Collection[str] = (),
    recall: Recall[dict[str, list[int]]] = anew,
) -> PruneLog:
    """Remove channels from `module`, in place, until the share that `settings.keep` names is left.

    Args:
        module: Its modes are kept; its parameters become new, smaller ones where channels go.
        example_inputs: Inputs of at least one example, for tracing and counting.
        settings: What to remove and how much.
        batches: Small batches of training examples, for the importances that look at such and for reconstruction.
        loss: The task's loss, (outputs, targets) -> mean over the batch, for those that need it.
        seed: Of the noise that groups are tried with, and of random importance.
        spent: Groups that have nothing more to give, by name.
        recall: Gives the units that were chosen before, or that the function chooses.

    Raises:
        UsageError: nothing can be pruned, the share cannot be reached, a glob of `ignore` matches nothing, or the
            network cannot be traced.
        StageError: the loss on training examples is not a number.
    """
    network = Prunable.find(module, example_inputs, settings, seed, spent)
    measure, groups = settings.share.measure, network.groups
    share = share_left(module, groups, example_inputs, measure)

    def choose() -> dict[str, list[int]]:
        with _told(network, settings):
            return choose_units(
                module, groups, settings, share, batches=batches, loss=loss, seed=seed, ties=network.ties
            )

    removed = recall(choose)
    done = network.without(removed, seed, batches=batches if settings.reconstruct else ())
    return PruneLog(
        measure=measure,
        asked=settings.share.share,
        reached=done.share(measure) if measure in done.before else share(removed),
        fixed=network.fixed,
        **vars(done),
    )


def check_share(network: Prunable, settings: Pruning) -> None:
    """Raise UsageError if the share that is asked cannot be reached; says what can."""
    share = share_left(network.module, network.groups, network.inputs, settings.share.measure)
    with _told(network, settings):
        check_reach(network.module, network.groups, settings, share, network.ties)


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


@contextmanager
def _told(network: Prunable, settings: Pruning) -> Iterator[None]:
    """Say to the user what is out of reach, and what is not."""
    try:
        yield
    except OutOfReachError as error:
        raise UsageError(_out_of_reach(error.least, settings, network)) from error


def _out_of_reach(least: float, settings: Pruning, network: Prunable) -> str:
    floors = f"`minimum_share` {settings.minimum_share:g} and `round_to` {settings.round_to}"
    if least == 1:
        widest = max(group.channels for group in network.groups)
        return (
            f"prune: nothing can be removed under {floors}: the widest prunable layer has {widest} channels. "
            "Choose a smaller `round_to` or `minimum_share`"
        )
    kept = f" Not prunable: {reasons(network.fixed)}." if network.fixed else ""
    return (
        f"prune.keep.{settings.share.measure}: a share of {settings.share.share:g} cannot be reached; the least that "
        f"{floors} leave is {math.ceil(least * 1000) / 1000:g}.{kept} Ask for more, or lower these floors"
    )
