"""What the channels that went were worth, beside all of them: whether time was saved where little is lost."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from compress.pruning.groups import Chosen, Group
from compress.pruning.ignore import is_under


def worth_of_removed(
    groups: Iterable[Group], scores: Mapping[str, Tensor], removed: Chosen, dropped: Collection[str] = ()
) -> dict[str, float]:
    """The mean score of the units that a layer loses, over the mean score of all units of all groups.

    Args:
        groups: what may be pruned.
        scores: (units,) of each group, of the network before anything went.
        removed: units of each group that go.
        dropped: blocks that go, whose layers are left out: scores of units did not decide on them.

    Returns:
        By path, those of the groups' modules that lose outputs; 1 is the mean. Empty if all scores are zero.
    """
    groups = list(groups)
    mean = float(torch.cat([scores[group.name].double() for group in groups]).mean()) if groups else 0.0
    lost: dict[str, list[Tensor]] = {}
    for group in groups if mean > 0 else ():
        gone = scores[group.name].double()[list(removed.get(group.name, ()))]
        for path in {member.path: None for member in group.members if member.axis == "out"} if len(gone) else ():
            if not is_under(path, dropped):
                lost.setdefault(path, []).append(gone)
    return {path: float(torch.cat(parts).mean()) / mean for path, parts in lost.items()}
