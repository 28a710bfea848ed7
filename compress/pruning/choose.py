"""Which units go, from the importance of all of them: at once, or in rounds that look anew.

The first-order change of the loss says what one unit is worth while all others are there. Of many that do the same work
each seems worth little, until most are gone; therefore what looks at examples goes part of the way, silences what was
chosen, re-estimates batch norms, and looks again. At half of the MACs and not trained, five rounds of `taylor` instead
of one kept 90 instead of 56 % accuracy on digits for three plain convolutions, 61 instead of 57 % on CIFAR-10 for
ResNet-20.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from compress.errors import UsageError
from compress.pruning.double import double_without
from compress.pruning.groups import Chosen, Group
from compress.pruning.importance.measures import MEASURES, Given, Measure, no_loss
from compress.pruning.importance.score import LabelledBatch, Loss
from compress.pruning.isomorphic import isomorphism_classes
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
from compress.pruning.ties import Ties

Share = Callable[[Chosen], float]
"""From units by group to the share of the measure that is left without them."""
Order = Callable[[Mapping[str, Tensor], Chosen], list[Block]]
"""From scores that compare and units by group that are gone to the blocks that may still go."""


def choose_units(
    module: nn.Module,
    groups: Sequence[Group],
    settings: Pruning,
    share: Share,
    *,
    batches: Sequence[LabelledBatch] = (),
    loss: Loss | None = None,
    seed: int = 0,
    ties: Ties | None = None,
) -> dict[str, list[int]]:
    """The units to remove, by group; `module` is left as it is. `ties` are groups that keep the same share.

    Raises:
        UsageError: the importance has no examples or no loss, or says nothing of a group.
        StageError: the loss on the examples is not a number.
        OutOfReachError: the share cannot be reached above the floors.
    """
    measure = MEASURES[settings.importance]
    _check_given(settings, measure, batches, loss)
    order = _order(module, groups, settings, ties)
    check_reach(module, groups, settings, share, ties)
    given = Given(batches, loss or no_loss, settings.norm, seed)
    rounds = measure.looks(settings.rounds)
    by_saving = settings.scope == "global" and measure.comparable == "per saving"
    savings = {group.name: 1 - share({group.name: [0]}) for group in groups} if by_saving else {}
    gone: dict[str, list[int]] = {}
    for number in range(1, rounds + 1):
        wanted = settings.share.share ** (number / rounds)
        if gone and share(gone) <= wanted:
            continue
        double = double_without(module, groups, gone, given.batches) if gone else module
        scores = measure.score(double, groups, given)
        comparable = {name: _comparable(measure, found, savings.get(name, 1.0)) for name, found in scores.items()}
        gone = select(order(comparable, gone), share, wanted, gone)
    return gone


def _check_given(settings: Pruning, measure: Measure, batches: Sequence[LabelledBatch], loss: Loss | None) -> None:
    if (measure.reads != "weights" and not batches) or (measure.reads == "examples and loss" and loss is None):
        needs = "training examples" + (" and a loss" if measure.reads == "examples and loss" else "")
        raise UsageError(f"prune: `importance: {settings.importance}` needs {needs}; or choose `magnitude`")


def _comparable(measure: Measure, scores: Tensor, saving: float) -> Tensor:
    """Scores of one group as they compare with those of others."""
    if measure.comparable == "per saving":
        return per_saving(scores, saving)
    return normalised(scores) if measure.comparable == "normalised" else scores


def _order(module: nn.Module, groups: Sequence[Group], settings: Pruning, ties: Ties | None) -> Order:
    return partial(
        order_blocks,
        groups,
        families=_families(module, groups, settings),
        round_to=settings.round_to,
        minimum_share=settings.minimum_share,
        ties=ties,
    )


def _families(module: nn.Module, groups: Sequence[Group], settings: Pruning) -> Mapping[str, Hashable] | None:
    """The groups that are compared with one another, as `order_blocks` takes them."""
    if settings.scope == "global":
        return None
    if settings.scope == "isomorphic":
        return isomorphism_classes(module, groups)
    return {group.name: group.name for group in groups}


def check_reach(
    module: nn.Module, groups: Sequence[Group], settings: Pruning, share: Share, ties: Ties | None = None
) -> None:
    """Raise OutOfReachError, before any importance is computed, if the floors do not allow the share."""
    anyhow = {group.name: torch.zeros(group.units) for group in groups}
    least = share(union(_order(module, groups, settings, ties)(anyhow, {})))
    if least > settings.share.share * (1 + TOLERANCE):
        raise OutOfReachError(least)
