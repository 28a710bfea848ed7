"""Examples for people to look at: a small picture as a data URI, or a text that is not too long."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.splits import Split
from compress.profiling.flips import Flips

MOST = {"became_wrong": 8, "became_right": 8, "stayed_wrong": 4}
"""How many of each kind are shown: the first ones, so that nobody chose them."""
SIDE = 96
"""Longest side of a picture, in pixels."""
LOSSLESS_PIXELS = 32 * 32
"""Up to so many pixels a picture keeps every one of them."""
MOST_LETTERS = 280
"""Of a text."""
CHANNELS = (1, 3, 4)


def shown_flips(split: Split, flips: Flips, labels: Sequence[str] | None) -> list[dict[str, Any]]:
    """The first examples of each kind of flip as plain data, with the names of their classes.

    Each has `index`, `kind`, `right`, `before`, `after`, and a `picture` (data URI) or `texts` where it is such.
    """
    chosen = [(kind, index) for kind, most in MOST.items() for index in getattr(flips, kind)[:most]]
    contents = shown(list(split.raw([index for _, index in chosen]))) if chosen else []
    rows = []
    for (kind, index), content in zip(chosen, contents, strict=True):
        names = dict(zip(("right", "before", "after"), (_name(at, labels) for at in flips.classes[index]), strict=True))
        rows.append({"index": index, "kind": kind, **names, **content})
    return rows


def _name(number: int, labels: Sequence[str] | None) -> str:
    return labels[number] if labels is not None and 0 <= number < len(labels) else str(number)


def shown(examples: Sequence[Any]) -> list[dict[str, Any]]:
    """For each raw example its `picture` or its `texts`; nothing of what is neither."""
    if examples and isinstance(examples[0], str | tuple):
        return [{"texts": [cut(text) for text in ((example,) if isinstance(example, str) else example)]}
                for example in examples]  # fmt: skip
    arrays = [_as_picture(np.asarray(example)) for example in examples]
    low, high = _range([array for array in arrays if array is not None])
    return [{} if array is None else {"picture": data_uri(array, low, high)} for array in arrays]


def cut(text: str, most: int = MOST_LETTERS) -> str:
    """A text of at most `most` letters; white space becomes single spaces."""
    plain = " ".join(text.split())
    return plain if len(plain) <= most else plain[: most - 1].rstrip() + "…"


def _as_picture(array: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """H x W, or H x W x 3; None for what is no picture."""
    if array.ndim == 3 and array.shape[2] not in CHANNELS and array.shape[0] in CHANNELS:
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[2] in CHANNELS:
        array = array[..., 0] if array.shape[2] == 1 else array[..., :3]
    elif array.ndim != 2:
        return None
    return array if min(array.shape[:2]) > 1 and array.dtype.kind in "biuf" else None


def _range(arrays: Sequence[npt.NDArray[Any]]) -> tuple[float, float]:
    """What is black and what is white: 0 and 255 of bytes, unless all of them are dark, as those of 4 bits are."""
    if not arrays:
        return 0.0, 1.0
    low = float(min(array.min() for array in arrays))
    high = float(max(array.max() for array in arrays))
    if arrays[0].dtype == np.uint8:
        low, high = 0.0, 255.0 if high > 127 else max(high, 1.0)
    return low, high if high > low else low + 1.0


def data_uri(array: npt.NDArray[Any], low: float, high: float) -> str:
    """A picture of H x W or H x W x 3 numbers, `low` being black and `high` white, as `data:image/...;base64,...`."""
    from PIL import Image

    levels = np.clip((array.astype(np.float64) - low) / (high - low), 0, 1)
    image = Image.fromarray(np.round(np.nan_to_num(levels) * 255).astype(np.uint8))
    image.thumbnail((SIDE, SIDE))
    small = image.width * image.height <= LOSSLESS_PIXELS
    kind = "png" if small else "jpeg"
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **({"optimize": True} if small else {"quality": 80}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
