"""The network as it would be without units and blocks, while all of it is still there."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

from torch import nn

from compress.pruning.batch_norm import reestimate
from compress.pruning.depth import bypassed
from compress.pruning.groups import Chosen, Group
from compress.pruning.importance.score import LabelledBatch, joined
from compress.pruning.masked import masked


def double_without(
    module: nn.Module,
    groups: Sequence[Group],
    removed: Chosen,
    batches: Sequence[LabelledBatch],
    dropped: Collection[str] = (),
) -> nn.Module:
    """A copy with silent units, its batch norms estimated without them and without blocks that are gone.

    The blocks are still there: whoever looks at the copy bypasses them.
    """
    double = masked(module, groups, removed) if removed else copy.deepcopy(module)
    if removed or dropped:
        with bypassed(double, dropped):
            reestimate(double, (inputs for inputs, _ in joined(batches)))
    return double
