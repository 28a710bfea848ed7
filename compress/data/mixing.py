"""Images of two examples each: which are mixed, with which, how much of each.

What the right answer to a mixture is, a teacher is asked (Beyer et al. 2022, section 3.1): its label is hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.random_bits import key_of, random_integers, random_shares

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Others:
    """All examples of a split: how many there are, and some by their numbers, preprocessed."""

    count: int
    take: Callable[[Indices], Floats]


@dataclass(frozen=True)
class Mixture:
    """What one step does to a batch: `chosen` of N examples are mixed with `partners`, one for each that is chosen."""

    chosen: npt.NDArray[np.bool_]
    partners: Indices
    mix: Callable[[Floats, Floats], Floats]
    """The chosen examples and their partners, M x C x H x W each, made one."""


def mixup(key: int, indices: Indices, count: int, alpha: float = 1.0, probability: float = 1.0) -> Mixture:
    """The weighted mean of two images (Zhang et al. 2018, equation 1); the larger weight is the example's own."""
    chosen, partners = _pairs(key, indices, count, probability)
    own = _own_share(key, indices[chosen], alpha).astype(np.float32).reshape(-1, 1, 1, 1)
    return Mixture(chosen, partners, lambda batch, others: own * batch + (np.float32(1) - own) * others)


def cutmix(key: int, indices: Indices, count: int, alpha: float = 1.0, probability: float = 1.0) -> Mixture:
    """A rectangle of another image, of the proportions of the whole, at a random place (Yun et al. 2019, equation 2).

    Its middle lies anywhere, so that it may stick out; it covers half of the image at most.
    """
    chosen, partners = _pairs(key, indices, count, probability)
    numbers = indices[chosen]
    side = np.sqrt(1 - _own_share(key, numbers, alpha))
    middles = [random_shares(key_of(key, _PLACE, axis), numbers) for axis in (0, 1)]

    def mix(batch: Floats, others: Floats) -> Floats:
        result = batch.copy()
        ranges = []
        for middle, length in zip(middles, batch.shape[2:], strict=True):
            first = np.rint(middle * length - side * length / 2).astype(np.int64)
            ranges.append((np.maximum(first, 0), first + np.rint(side * length).astype(np.int64)))
        (tops, bottoms), (lefts, rights) = ranges
        for row, (top, bottom, left, right) in enumerate(zip(tops, bottoms, lefts, rights, strict=True)):
            result[row, :, top:bottom, left:right] = others[row, :, top:bottom, left:right]
        return result

    return Mixture(chosen, partners, mix)


MIXTURES: dict[str, Callable[..., Mixture]] = {"mixup": mixup, "cutmix": cutmix}

_CHANCE, _PARTNER, _SHARE, _PLACE = range(4)


def mixes(steps: Any) -> bool:
    """Whether one of the steps, mappings of one key, mixes examples."""
    return any(name in MIXTURES for step in steps for name in step)


def _pairs(key: int, indices: Indices, count: int, probability: float) -> tuple[npt.NDArray[np.bool_], Indices]:
    """(which examples are mixed, and the number of the other for each of these); no example with itself."""
    chosen = random_shares(key_of(key, _CHANCE), indices) < probability
    if count < 2:
        raise ValueError("mixing takes two examples, and the split has one")
    numbers = indices[chosen]
    return chosen, (numbers + 1 + random_integers(key_of(key, _PARTNER), numbers, count - 1)) % count


def _own_share(key: int, indices: Indices, alpha: float) -> npt.NDArray[np.float64]:
    """How much is the example's own, at least half: Beta(alpha, alpha), or what it lacks to 1."""
    from scipy.special import betaincinv

    drawn = np.asarray(betaincinv(alpha, alpha, random_shares(key_of(key, _SHARE), indices)), dtype=np.float64)
    return np.maximum(drawn, 1 - drawn)
