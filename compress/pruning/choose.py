"""Which units go, from the importance of all of them: at once, or in rounds that look anew.

The first-order change of the loss says what one unit is worth while all others are there. Of many that do the same work
each seems worth little, until most are gone; therefore `taylor` goes part of the way, silences what was chosen,
re-estimates batch norms, and looks again. At half of the MACs and not trained, five rounds instead of one kept 90
instead of 56 % accuracy on digits for three plain convolutions, 61 instead of 57 % on CIFAR-10 for ResNet-20.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.pruning.batch_norm import reestimate
from compress.pruning.groups import Chosen, Group
from compress.pruning.importance.score import LabelledBatch, Loss, magnitude_scores, taylor_scores
from compress.pruning.masked import masked
from compress.pruning.selection import (
    TOLERANCE,
    Block,
    OutOfReachError,
    normalised,
    order_blocks,
    per_saving,
    select,
    union,
)
from compress.pruning.settings import Pruning

JOINED = 8
"""Batches for importance that make one for batch-norm statistics, which are better over more examples."""
Share = Callable[[Chosen], float]
"""From units by group to the share of the measure that is left without them."""


def choose_units(
    module: nn.Module,
    groups: Sequence[Group],
    settings: Pruning,
    share: Share,
    *,
    batches: Sequence[LabelledBatch] = (),
    loss: Loss | None = None,
) -> dict[str, list[int]]:
    """The units to remove, by group; `module` is left as it is.

    Raises:
        UsageError: `taylor` has no examples or no loss.
        StageError: the loss on the examples is not a number.
        OutOfReachError: the share cannot be reached above the floors.
    """
    if settings.importance == "taylor" and (loss is None or not batches):
        raise UsageError("prune: `importance: taylor` needs training examples and a loss; or choose `magnitude`")
    _check_reach(groups, settings, share)
    rounds = settings.rounds if settings.importance == "taylor" else 1
    savings = {group.name: 1 - share({group.name: [0]}) for group in groups} if settings.scope == "global" else {}
    gone: dict[str, list[int]] = {}
    for number in range(1, rounds + 1):
        wanted = settings.keep.share ** (number / rounds)
        if gone and share(gone) <= wanted:
            continue
        if settings.importance == "taylor" and loss is not None:
            scores = _taylor_without(module, groups, gone, batches, loss)
            comparable = {name: per_saving(found, savings.get(name, 1.0)) for name, found in scores.items()}
        else:
            scores = magnitude_scores(module, groups, settings.norm)
            comparable = {name: normalised(found) for name, found in scores.items()}
        gone = select(_blocks(groups, comparable, gone, settings), share, wanted, gone)
    return gone


def _taylor_without(
    module: nn.Module, groups: Sequence[Group], gone: Chosen, batches: Sequence[LabelledBatch], loss: Loss
) -> dict[str, Tensor]:
    """The loss's change for each unit once those gone are silent; for them it is 0."""
    if not gone:
        return taylor_scores(module, groups, batches, loss)
    double = masked(module, groups, gone)
    reestimate(double, _joined(batches))
    return taylor_scores(double, groups, batches, loss)


def _joined(batches: Sequence[LabelledBatch]) -> Iterator[tuple[Tensor, ...]]:
    """The inputs of several batches at a time."""
    for start in range(0, len(batches), JOINED):
        inputs = [batch_inputs for batch_inputs, _ in batches[start : start + JOINED]]
        yield tuple(torch.cat(parts) for parts in zip(*inputs, strict=True))


def _blocks(groups: Sequence[Group], scores: Mapping[str, Tensor], gone: Chosen, settings: Pruning) -> list[Block]:
    return order_blocks(
        groups,
        scores,
        gone,
        scope=settings.scope,
        round_to=settings.round_to,
        minimum_share=settings.minimum_share,
    )


def _check_reach(groups: Sequence[Group], settings: Pruning, share: Share) -> None:
    """Raise OutOfReachError, before any importance is computed, if the floors do not allow the share."""
    anyhow = {group.name: torch.zeros(group.units) for group in groups}
    least = share(union(_blocks(groups, anyhow, {}, settings)))
    if least > settings.keep.share * (1 + TOLERANCE):
        raise OutOfReachError(least)
