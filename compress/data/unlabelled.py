"""Training examples whose targets are hidden: from the source, or cut from its training split."""

from __future__ import annotations

import numpy as np

from compress.data.cut import cut
from compress.data.splits import Split, Subset, Unlabelled
from compress.errors import UsageError


def hidden_share(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    """(the examples whose targets stay, those whose targets are hidden: `share` of all, stratified by class).

    Raises:
        UsageError: too few examples for both.
    """
    targets = train.targets(np.arange(len(train)))
    hidden, kept = cut(targets, [share], seed)
    if not len(hidden) or not len(kept):
        raise UsageError(f"data: split.unlabelled {share}: {len(train)} training examples are too few")
    return Subset(train, kept), without_targets(Subset(train, hidden), train)


def without_targets(split: Split, like: Split) -> Split:
    """`split` with hidden targets, of the shape that those of `like` have."""
    return Unlabelled(split, tuple(like.targets([0]).shape[1:]))
