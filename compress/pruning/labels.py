"""Who is who along the axes of tensors: labels that follow channels wherever an operator moves them.

Each index along an axis bears a label. Labels that must go together are joined (union and find); a class of them that
is not fixed is a unit of pruning. An axis without labels is `FREE` if all that stands along it is alike (a size of 1,
what was broadcast, a constant fill), and `RIGID` if it is no axis of channels: examples, tokens, pixels.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Bare(enum.Enum):
    """An axis without labels."""

    FREE = "free"
    RIGID = "rigid"


FREE, RIGID = Bare.FREE, Bare.RIGID
Axis = Ids | Bare
"""Labels along one axis of a tensor."""
MEETS_INPUT = "its channels meet an axis that cannot lose any: the network's input, a constant, tokens or pixels"
PARTS = "its channels are reshaped into parts whose size or number is fixed"


@dataclass(frozen=True)
class Product:
    """An axis `whole` that is the product of others, `parts` of `sizes`, outermost first.

    `chosen` is the part that shall lose its entries, None where nothing is known about it.
    """

    whole: Ids
    parts: tuple[Axis, ...]
    sizes: tuple[int, ...]
    chosen: int | None


class Labels:
    """All labels of a network, which of them are joined, and why some cannot go."""

    def __init__(self) -> None:
        self._above: Ids = np.arange(1024)
        self._fixed: Ids = np.zeros(1024, np.int64)
        self._count = 0
        self._reasons = [""]
        self._products: list[Product] = []

    def fresh(self, count: int) -> Ids:
        """New labels."""
        start, self._count = self._count, self._count + count
        while self._count > len(self._above):
            self._above = np.concatenate([self._above, np.arange(len(self._above), 2 * len(self._above))])
            self._fixed = np.concatenate([self._fixed, np.zeros(len(self._fixed), np.int64)])
        return np.arange(start, self._count)

    def roots(self, ids: Ids) -> Ids:
        """The label that stands for the class of each."""
        found = self._above[ids]
        while True:
            above = self._above[found]
            if np.array_equal(above, found):
                self._above[ids] = found
                return found
            found = above

    def join(self, one: Axis, other: Axis) -> Axis:
        """Let what stands at the same index of two axes of one length go together; the axis that both are."""
        if isinstance(one, Bare) or isinstance(other, Bare):
            if one is FREE or other is FREE:
                return other if one is FREE else one
            self.fix(one, MEETS_INPUT)
            self.fix(other, MEETS_INPUT)
            return one if isinstance(other, Bare) else other
        if one is not other:
            self._unite(one, other)
        return one

    def _unite(self, one: Ids, other: Ids) -> None:
        while True:
            first, second = self.roots(one), self.roots(other)
            pairs = np.stack([np.minimum(first, second), np.maximum(first, second)])
            low, high = pairs[:, first != second]
            if not len(low):
                return
            high, chosen = np.unique(high, return_index=True)  # each label gets one above it at a time
            low = low[chosen]
            self._above[high] = low
            both = np.concatenate([low, high])
            reasons, roots = self._fixed[both], self.roots(both)
            told = (reasons > 0) & (self._fixed[roots] == 0)
            self._fixed[roots[told]] = reasons[told]

    def tie(self, ids: Axis, parts: int) -> None:
        """Let what stands at the same position of each of equal `parts` go together."""
        if not isinstance(ids, Bare):
            first, *others = np.split(ids, parts)
            for other in others:
                self.join(first, other)

    def fix(self, ids: Axis, reason: str, *, over: bool = False) -> None:
        """Say that none of these can go, and why; what was said first stays, unless `over`."""
        if isinstance(ids, Bare):
            return
        if reason not in self._reasons:
            self._reasons.append(reason)
        roots = self.roots(ids)
        known = self._fixed[roots]
        self._fixed[roots] = np.where((known > 0) & (not over), known, self._reasons.index(reason))

    def reasons(self, ids: Ids) -> list[str]:
        """Why each cannot go; empty where it can."""
        return [self._reasons[number] for number in self._fixed[self.roots(ids)]]

    def merge(self, parts: Sequence[Axis], sizes: Sequence[int]) -> Axis:
        """The axis that several adjacent ones become."""
        kept = [(part, size) for part, size in zip(parts, sizes, strict=True) if size > 1]
        if not any(isinstance(part, np.ndarray) for part, _ in kept):
            return RIGID if any(part is RIGID for part, _ in kept) else FREE
        if len(kept) == 1:
            return kept[0][0]
        parts, sizes = tuple(part for part, _ in kept), tuple(size for _, size in kept)
        for known in self._products:
            if known.sizes == sizes and all(map(self._same, known.parts, parts)):
                return known.whole
        whole = self.fresh(int(np.prod(sizes)))
        self._products.append(Product(whole, parts, sizes, None))
        return whole

    def split(self, whole: Axis, sizes: Sequence[int], chosen: int | None = None) -> list[Axis]:
        """The axes that one becomes; `chosen` is the one that shall lose its entries, where that is known."""
        if isinstance(whole, Bare):
            return [FREE if size == 1 else whole for size in sizes]
        kept = [number for number, size in enumerate(sizes) if size > 1]
        lengths = tuple(sizes[number] for number in kept)
        parts: tuple[Axis, ...] = (whole,)
        if len(kept) > 1:
            known = next((p for p in self._products if p.sizes == lengths and self._same(p.whole, whole)), None)
            parts = known.parts if known else tuple(self.fresh(size) for size in lengths)
            if known is None or (chosen is not None and known.chosen is None and len(_choices(known)) > 1):
                self._products.append(Product(whole, parts, lengths, None if chosen is None else kept.index(chosen)))
        placed = dict(zip(kept, parts, strict=True))
        return [placed.get(number, FREE) for number in range(len(sizes))]

    def within(self, parts: Sequence[Axis]) -> NDArray[np.bool_]:
        """Of each label whether it stands itself, not what it is joined with, where one of `parts` was split off."""
        asked = [axis for axis in parts if isinstance(axis, np.ndarray)]
        found = np.zeros(self._count, np.bool_)
        for product in self._products:
            own = [part for part in product.parts if isinstance(part, np.ndarray)]
            if any(np.array_equal(part, axis) for part in own for axis in asked):
                found[product.whole] = True
        return found

    def settle(self) -> None:
        """Decide for each product which part loses entries, and tie its whole to it; the other parts are fixed."""
        for product in sorted(self._products, key=lambda found: found.chosen is None):
            choices = [number for number in _choices(product) if not all(self.reasons(product.parts[number]))]  # type: ignore[arg-type]
            if not choices:
                self.fix(product.whole, PARTS)
                continue
            best = max(choices, key=lambda number: (number == product.chosen, product.sizes[number], number))
            shape = [1] * len(product.sizes)
            shape[best] = product.sizes[best]
            part = product.parts[best]
            assert isinstance(part, np.ndarray)
            self.join(np.broadcast_to(part.reshape(shape), product.sizes).reshape(-1), product.whole)
            for number in set(_choices(product)) - {best}:
                self.fix(product.parts[number], PARTS)

    def _same(self, one: Axis, other: Axis) -> bool:
        if isinstance(one, Bare) or isinstance(other, Bare):
            return one is other
        return len(one) == len(other) and np.array_equal(self.roots(one), self.roots(other))


def _choices(product: Product) -> list[int]:
    return [number for number, part in enumerate(product.parts) if isinstance(part, np.ndarray)]
