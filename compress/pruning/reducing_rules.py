"""What operators that reduce, pool or reshape images do with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from compress.pruning.labels import FREE, RIGID
from compress.pruning.rules import Axes, Traced

AVERAGED = "its channels are averaged, compared or summed up by a function that counts them"
PIXELS = "its channels become pixels"


def rigid(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Along the axis that is named nothing can go; the result has the input's axes."""
    axes = t.axes(args[0])
    place = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    for number in [place] if isinstance(place, int) else place or range(len(axes)):
        if axes:
            t.labels.fix(axes[number], AVERAGED)
    return axes


def reduced(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any, *, counts: bool = True) -> Any:
    """Axes are gone, or have size 1. Where the function counts entries, silent channels are not as good as gone."""
    first = out if isinstance(out, Tensor) else out[0]
    x, given = args[0], args[1] if len(args) > 1 else kwargs.get("dim")
    if isinstance(given, bool) or given is None or given == []:
        places = set(range(x.dim()))
    else:
        places = {place % max(1, x.dim()) for place in ([given] if isinstance(given, int) else given)}
    axes = t.axes(x)
    if counts and not t.in_norm():
        for place in places:
            t.labels.fix(axes[place] if axes else RIGID, AVERAGED)
    keep = first.dim() == x.dim()
    left: Axes = [FREE if n in places else a for n, a in enumerate(axes) if keep or n not in places]
    return left if isinstance(out, Tensor) else [left for _ in out]


def summed(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Any:
    """A sum over axes, to which a silent channel adds nothing."""
    return reduced(t, args, kwargs, out, counts=False)


def images(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Any:
    """Pooling, padding or interpolation of the last axes, those of the image."""
    several = out if isinstance(out, tuple | list) else (out,)
    axes, found = t.axes(args[0]), []
    for result in several:
        more = max(0, result.dim() - 2)
        for axis in axes[2:]:
            t.labels.fix(axis, PIXELS)
        found.append([*axes[:2], *[RIGID] * more][: result.dim()])
    return found if isinstance(out, tuple | list) else found[0]


def pixel_shuffle(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Channels become blocks of pixels: all channels of a block go together."""
    x, factor = args[0], args[1]
    axes = t.axes(x)
    channels = x.shape[-3] // factor**2
    block = t.labels.split(axes[-3], (channels, factor * factor), 0)
    return [*axes[:-3], block[0], RIGID, RIGID]


def pixel_unshuffle(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Blocks of pixels become channels."""
    x, factor = args[0], args[1]
    axes = t.axes(x)
    return [*axes[:-3], t.labels.merge([axes[-3], RIGID], [x.shape[-3], factor**2]), RIGID, RIGID]
