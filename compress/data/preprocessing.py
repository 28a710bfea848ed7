"""Preprocessing as plain data, with one implementation: standard library and NumPy only.

This file stands alone. It is copied beside deployed models and imported on devices that have no `compress`.

    preprocess = Preprocessing([{"resize": {"size": 32}}, {"scale": {"factor": 1 / 255}}])
    batch = preprocess([image, another])          # H x W or H x W x C arrays of any sizes -> float32 N x C x H x W

An example gets the same bits whatever else is in its batch. Without any step, examples are stacked as they are; with
one or more, examples of two or three axes are images and those of one axis are vectors of features.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value: ITU-R BT.601."""


class Preprocessing:
    """Turns stored examples into the batch that a network reads.

    Args:
        steps: one-key mappings from a step's name to its settings, in the order in which they are done.

    Raises:
        ValueError: an unknown step, or settings that it does not have.
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]]) -> None:
        self.steps = tuple(dict(step) for step in steps)
        self._functions = [_function(step) for step in self.steps]
        self._layout = next((step["image"].get("layout", "hwc") for step in self.steps if "image" in step), None)

    def __call__(self, raw: Sequence[npt.NDArray[Any]]) -> Floats:
        """A float32 batch, channels first, of `raw` examples.

        Raises:
            ValueError: an example that a step cannot take, or examples that end in different shapes.
        """
        if not self._functions:
            return _stack([np.asarray(example, dtype=np.float32) for example in raw])
        examples = [np.asarray(example) for example in raw]
        if len({example.shape for example in examples}) == 1:
            return self._run(np.stack(examples))
        return _stack([self._run(example[None])[0] for example in examples])

    def _run(self, batch: npt.NDArray[Any]) -> Floats:
        result = np.ascontiguousarray(self._channels_first(batch), dtype=np.float32)
        for function in self._functions:
            result = function(result)
        return np.ascontiguousarray(result)

    def _channels_first(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Images as N x C x H x W; vectors of features as they are, N x F, features standing where channels do."""
        if batch.ndim == 3:
            return batch[:, None]
        if batch.ndim == 4:
            if self._layout is None and batch.shape[1] <= 4 < batch.shape[3]:
                raise ValueError(
                    f"images of shape {batch.shape[1:]} seem to have their channels first; say so with the first step "
                    "{image: {layout: chw}}, or hwc if they are that flat"
                )
            return batch if self._layout == "chw" else batch.transpose(0, 3, 1, 2)
        if batch.ndim == 2:
            return batch
        raise ValueError(f"steps of preprocessing take images and vectors, got an example of shape {batch.shape[1:]}")


def image(batch: Floats, layout: str = "hwc") -> Floats:
    """Says that examples are images whose axes lie as `layout` says; the reading of it is in `Preprocessing`."""
    if layout not in ("hwc", "chw"):
        raise ValueError(f"image: layout must be hwc or chw, got {layout!r}")
    return _images("image", batch)


def color(batch: Floats, mode: str) -> Floats:
    """N x {1, 2, 3, 4} x H x W -> one channel (`grey`) or three (`rgb`); alpha, the last of two or four, is dropped."""
    channels = _images("color", batch).shape[1]
    if channels > 4:
        raise ValueError(f"color: images have 1 to 4 channels, got {channels}")
    opaque = batch[:, :1] if channels <= 2 else batch[:, :3]
    if mode == "rgb":
        return np.repeat(opaque, 3, axis=1) if channels <= 2 else opaque
    if mode == "grey":
        if channels <= 2:
            return opaque
        red, green, blue = (np.float32(weight) * opaque[:, i : i + 1] for i, weight in enumerate(LUMA))
        grey: Floats = red + green + blue
        return grey
    raise ValueError(f"color: mode must be grey or rgb, got {mode!r}")


def resize(batch: Floats, size: int | Sequence[int], keep: str | None = None) -> Floats:
    """Bilinear resizing with antialiasing: the triangle filter, widened when shrinking (Pillow's BILINEAR)."""
    old_height, old_width = _images("resize", batch).shape[2:]
    if keep not in (None, "shortest"):
        raise ValueError(f"resize: keep must be shortest or absent, got {keep!r}")
    height, width = _two(size)
    if keep == "shortest":
        shortest = min(old_height, old_width)
        height, width = (max(1, round(height * side / shortest)) for side in (old_height, old_width))
    if (height, width) == (old_height, old_width):
        return batch
    rows, columns = _triangle_weights(old_height, height), _triangle_weights(old_width, width)
    result = np.empty((*batch.shape[:2], height, width), dtype=np.float32)
    # One plane at a time: a batched product would give other bits for another batch size.
    for place in np.ndindex(batch.shape[:2]):
        result[place] = rows @ batch[place] @ columns.T
    return result


def center_crop(batch: Floats, size: int | Sequence[int]) -> Floats:
    """The middle of every image; with an odd margin the smaller half of it is cut at the top and left."""
    height, width = _two(size)
    old_height, old_width = _images("center_crop", batch).shape[2:]
    if old_height < height or old_width < width:
        raise ValueError(f"center_crop: cannot cut {height}x{width} out of {old_height}x{old_width}; resize first")
    top, left = (old_height - height) // 2, (old_width - width) // 2
    return batch[:, :, top : top + height, left : left + width]


def scale(batch: Floats, factor: float) -> Floats:
    """Every value times `factor`."""
    return batch * np.float32(factor)


def normalize(batch: Floats, mean: Sequence[float], std: Sequence[float]) -> Floats:
    """(x - mean) / std, with one mean and deviation a channel (a feature of a vector), or one for all of them."""
    channels = batch.shape[1]
    if not len(mean) == len(std) or len(mean) not in (1, channels):
        raise ValueError(f"normalize: {len(mean)} means and {len(std)} deviations for {channels} channels")
    along_channels = (-1, *(1,) * (batch.ndim - 2))
    shift = np.asarray(mean, dtype=np.float32).reshape(along_channels)
    spread = np.asarray(std, dtype=np.float32).reshape(along_channels)
    return np.asarray((batch - shift) / spread, dtype=np.float32)


STEPS: dict[str, Callable[..., Floats]] = {
    "image": image,
    "color": color,
    "resize": resize,
    "center_crop": center_crop,
    "scale": scale,
    "normalize": normalize,
}


def _function(step: Mapping[str, Any]) -> Callable[[Floats], Floats]:
    if len(step) != 1:
        raise ValueError(f"a step of preprocessing has one name, got {sorted(step)}")
    [(name, settings)] = step.items()
    if name not in STEPS:
        raise ValueError(f"unknown step of preprocessing {name!r}; known: {', '.join(STEPS)}")
    try:
        inspect.signature(STEPS[name]).bind(None, **settings)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error
    return functools.partial(STEPS[name], **settings)


def _stack(examples: Sequence[Floats]) -> Floats:
    shapes = sorted({example.shape for example in examples})
    if len(shapes) != 1:
        found = ", ".join(map(str, shapes[:5])) or "none"
        raise ValueError(f"examples must come out in one shape, got {found}; resize, center_crop and color see to it")
    return np.stack(examples)


def _images(step: str, batch: Floats) -> Floats:
    if batch.ndim != 4:
        raise ValueError(f"{step} takes images, got an example of shape {batch.shape[1:]}")
    return batch


def _two(size: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = size
    return int(height), int(width)


@functools.lru_cache(maxsize=256)
def _triangle_weights(old: int, new: int) -> Floats:
    """Weights, new x old, each row summing to 1: how much each old pixel gives to a new one."""
    ratio = old / new
    reach = max(ratio, 1.0)
    centers = (np.arange(new) + 0.5) * ratio
    distance = np.abs(np.arange(old) + 0.5 - centers[:, None]) / reach
    weights = np.maximum(0.0, 1.0 - distance)
    result: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return result
