"""Augmentation of preprocessed images: a pure function of (seed, epoch, example), whatever else is in the batch.

So a continued run, another number of processes and a cache of teacher outputs all see the same examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.mixing import MIXTURES, Others
from compress.data.random_bits import key_of, random_integers, random_shares

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_PAD_MODES = {"zero": "constant", "edge": "edge", "reflect": "reflect"}


def augment(
    batch: Floats,
    steps: Sequence[Mapping[str, Any]],
    seed: int,
    epoch: int,
    indices: npt.NDArray[np.integer],
    others: Others | None = None,
) -> Floats:
    """A changed copy of `batch`.

    An example that is mixed in went through the steps above, as it does where its own turn comes.

    Args:
        batch: preprocessed images, N x C x H x W.
        steps: one-key mappings from a step's name to its settings, in the order in which they are done.
        seed: which of the equally good sequences of changes.
        epoch: the same example is changed anew in each.
        indices: the number of each example in its split, N.
        others: all examples of the split, for steps that mix two; None leaves such steps out, as targets want it.

    Raises:
        ValueError: an unknown step, or examples that are no images.
    """
    if batch.ndim != 4:
        raise ValueError(f"augmentation moves images, got examples of shape {batch.shape[1:]}")
    for position, step in enumerate(steps):
        [(name, settings)] = step.items()
        key, numbers = key_of(seed, epoch, position), np.asarray(indices, dtype=np.int64)
        if name in STEPS:
            batch = STEPS[name](batch, key, numbers, **settings)
        elif name not in MIXTURES:
            raise ValueError(f"unknown step of augmentation {name!r}; known: {', '.join([*STEPS, *MIXTURES])}")
        elif others is not None:
            mixture = MIXTURES[name](key, numbers, others.count, **settings)
            chosen = mixture.chosen
            partners = augment(others.take(mixture.partners), steps[:position], seed, epoch, mixture.partners, others)
            batch = batch.copy()
            batch[chosen] = mixture.mix(batch[chosen], partners)
    return batch


def mixed(
    steps: Sequence[Mapping[str, Any]], seed: int, epoch: int, indices: npt.NDArray[np.integer], count: int
) -> npt.NDArray[np.bool_]:
    """Which examples hold a part of another after `augment`, N; `count` is how many the split has."""
    found = np.zeros(len(indices), dtype=bool)
    for position, step in enumerate(steps):
        [(name, settings)] = step.items()
        if name in MIXTURES:
            key = key_of(seed, epoch, position)
            found |= MIXTURES[name](key, np.asarray(indices, dtype=np.int64), count, **settings).chosen
    return found


def pad_crop(batch: Floats, key: int, indices: Indices, padding: int, fill: str = "zero") -> Floats:
    """Pads each side by `padding` pixels and cuts the old size out at a random place (He et al. 2015, section 4.2)."""
    height, width = batch.shape[2:]
    if fill == "reflect" and padding >= min(height, width):
        raise ValueError(f"pad_crop: an image of {height}x{width} has no {padding} pixels to mirror")
    places = 2 * padding + 1
    place = random_integers(key, indices, places * places)
    tops, lefts = place // places, place % places
    border = [(0, 0), (0, 0), (padding, padding), (padding, padding)]
    padded = np.pad(batch, border, mode=_PAD_MODES[fill])  # type: ignore[call-overload]
    result = np.empty_like(batch)
    for number, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
        result[number] = padded[number, :, top : top + height, left : left + width]
    return result


def flip(batch: Floats, key: int, indices: Indices, probability: float = 0.5) -> Floats:
    """Mirrors left and right with the given probability."""
    chosen = random_shares(key, indices) < probability
    result = batch.copy()
    result[chosen] = batch[chosen, :, :, ::-1]
    return result


STEPS: dict[str, Callable[..., Floats]] = {"pad_crop": pad_crop, "flip": flip}
