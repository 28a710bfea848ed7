"""Cutting splits that a source lacks: seeded, stratified by class, the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compress.data.random_bits import key_of, random_order

Indices = npt.NDArray[np.int64]


def cut(targets: npt.NDArray[np.generic], shares: Sequence[float], seed: int) -> list[Indices]:
    """Disjoint parts of `targets`, one a share, and last what is left; indices ascend within each.

    Whole-number targets of one axis are classes: each part then holds each class in the class's own share to within
    one example, and in total round(share x N). Other targets are cut without regard to their values.

    Args:
        targets: N x anything.
        shares: of all N, each above 0, together below 1.
        seed: which of the equally good cuts.
    """
    order = random_order(key_of(seed, len(targets)), len(targets))
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer):
        order = _interleaved(order, targets)
    parts: list[Indices] = []
    taken = 0
    for share in shares:
        count = round(share * len(targets))
        # Interleaved classes make every stretch of the order stratified.
        parts.append(np.sort(order[taken : taken + count]))
        taken += count
    return [*parts, np.sort(order[taken:])]


def take(targets: npt.NDArray[np.generic], count: int, seed: int) -> Indices:
    """The indices of `count` examples, chosen as `cut` chooses; all of them where there are no more."""
    if count >= len(targets):
        return np.arange(len(targets))
    return cut(targets, [count / len(targets)], seed)[0]


def _interleaved(order: Indices, classes: npt.NDArray[np.generic]) -> Indices:
    """`order` rearranged so that each class is spread evenly: its k-th of n examples stands at (k + 1/2) / n."""
    shuffled = classes[order]
    by_class = np.argsort(shuffled, kind="stable")
    _, starts, counts = np.unique(shuffled[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(starts, counts)
    position = np.empty(len(order))
    position[by_class] = (rank + 0.5) / np.repeat(counts, counts)
    return order[np.argsort(position, kind="stable")]
