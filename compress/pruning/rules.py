"""What each ATen operator does with the labels of its inputs: one small function for each kind of operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from compress.pruning.labels import FREE, RIGID, Axis, Bare, Labels

Axes = list[Axis]
SLICED = "its channels are sliced at fixed places"
PICKED = "its channels are picked one by one"


class Traced(Protocol):
    """What a rule may ask while a network runs."""

    labels: Labels

    def axes(self, tensor: Tensor) -> Axes:
        """The axes of a tensor."""

    def chosen(self, sizes: Sequence[int], asked: Sequence[int]) -> int | None:
        """Which of the axes that one is split into shall lose entries, if the module at work tells."""

    def in_norm(self) -> bool:
        """Whether the module at work is a norm over channels, for which means are defined over those that stay."""


Rule = Callable[[Traced, Sequence[Any], Mapping[str, Any], Any], Any]
"""(trace, the operator's arguments, those by name, its result) -> axes of the result, or of each of several."""


def pointwise(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Axes of operands are one, as broadcasting aligns them from the right."""
    found: Axes = [FREE] * out.dim()
    for tensor in [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]:
        offset = out.dim() - tensor.dim()
        for number, axis in enumerate(t.axes(tensor)):
            if tensor.shape[number] > 1:
                found[offset + number] = t.labels.join(found[offset + number], axis)
    return found


def same(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """The result is like the input."""
    return t.axes(args[0])


def free(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """A constant, whatever its size."""
    return [FREE] * out.dim()


def copied(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """The second operand's values in place of the first's."""
    return pointwise(t, args[:2], {}, out)


def restrided(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Memory read anew: the same axes if their sizes are the same, else nobody knows."""
    axes, x = t.axes(args[0]), args[0]
    if list(args[1]) == list(x.shape) or out is x:
        return [*axes, *[FREE] * (out.dim() - len(axes))][: out.dim()]
    unknown(t, [x], PICKED)
    return [RIGID] * out.dim()


def view(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Runs of axes become runs of axes of the same product."""
    x, axes, found = args[0], t.axes(args[0]), []
    asked = list(args[1]) if len(args) > 1 and len(args[1]) == out.dim() else list(out.shape)
    i = j = 0
    while i < x.dim() or j < out.dim():
        start, first, size, other = i, j, 1, 1
        while i == start or j == first or size != other:
            if i < x.dim() and (size <= other or j == out.dim()) and not (i > start and size == other):
                size, i = size * x.shape[i], i + 1
            elif j < out.dim():
                other, j = other * out.shape[j], j + 1
            else:
                break
        whole = t.labels.merge(axes[start:i], x.shape[start:i])
        sizes = list(out.shape[first:j])
        found += t.labels.split(whole, sizes, t.chosen(sizes, asked[first:j]))
    return found


def permute(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Axes in another order."""
    axes = t.axes(args[0])
    return [axes[number] for number in args[1]]


def transpose(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Two axes exchanged; without further arguments those of a matrix."""
    axes = list(t.axes(args[0]))
    if len(axes) > 1:
        one, other = args[1:3] if len(args) > 2 else (0, 1)
        axes[one], axes[other] = axes[other], axes[one]
    return axes


def unsqueeze(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """An axis of size 1 more."""
    axes, place = list(t.axes(args[0])), args[1] % out.dim()
    return [*axes[:place], FREE, *axes[place:]]


def squeeze(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Axes of size 1 fewer."""
    x = args[0]
    places = range(x.dim()) if len(args) < 2 else [args[1]] if isinstance(args[1], int) else args[1]
    gone = {place % x.dim() for place in places if x.shape[place] == 1}
    return [axis for number, axis in enumerate(t.axes(x)) if number not in gone]


def expand(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Axes of size 1 repeated."""
    x, axes = args[0], t.axes(args[0])
    more = out.dim() - x.dim()
    return [FREE] * more + [axis if x.shape[number] > 1 else FREE for number, axis in enumerate(axes)]


def repeat(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Whole axes one after the other, as often as said."""
    x, times = args[0], args[1]
    axes = [*[FREE] * (out.dim() - x.dim()), *t.axes(x)]
    sizes = [*[1] * (out.dim() - x.dim()), *x.shape]
    return [
        np.tile(axis, count) if isinstance(axis, np.ndarray) and size > 1 else RIGID if axis is RIGID else FREE
        for axis, size, count in zip(axes, sizes, times, strict=True)
    ]


def cat(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """One axis is put together of others; the rest are the same."""
    tensors = [x for x in args[0] if x.dim() == out.dim()]
    place = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    found: Axes = [FREE] * out.dim()
    for tensor in tensors:
        for number, axis in enumerate(t.axes(tensor)):
            if number != place and tensor.shape[number] > 1:
                found[number] = t.labels.join(found[number], axis)
    pieces = [(t.axes(x)[place], x.shape[place]) for x in tensors]
    if any(isinstance(axis, np.ndarray) for axis, _ in pieces):
        found[place] = np.concatenate([_labelled(t, axis, size) for axis, size in pieces])
    else:
        found[place] = RIGID if any(axis is RIGID for axis, _ in pieces) else FREE
    return found


def _labelled(t: Traced, axis: Axis, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Labels; where there are none, new ones of what cannot go."""
    if isinstance(axis, np.ndarray):
        return axis
    labels = t.labels.fresh(size)
    t.labels.fix(labels, "some of its channels are constants")
    return labels


def stack(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Tensors side by side along a new axis."""
    place = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.dim()
    axes = pointwise(t, args[0], {}, args[0][0])
    return [*axes[:place], RIGID, *axes[place:]]


def slices(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """A run of an axis; if runs of this length fill the axis, what stands at the same place of each goes together."""
    x, axes = args[0], list(t.axes(args[0]))
    given = dict(zip(("dim", "start", "end", "step"), args[1:], strict=False)) | dict(kwargs)
    place = given.get("dim", 0) % x.dim()
    size = x.shape[place]
    start, end, step = slice(given.get("start"), given.get("end"), given.get("step", 1)).indices(size)
    axes[place] = _slice(t, axes[place], start, end, step)
    return axes


def _slice(t: Traced, axis: Axis, start: int, end: int, step: int) -> Axis:
    if isinstance(axis, Bare) or (start == 0 and end == len(axis) and step == 1):
        return axis
    length = len(axis)
    if step > 1 and length % step == 0:
        t.labels.tie(axis.reshape(-1, step).T.reshape(-1), step)
    elif step == 1 and end > start and length % (end - start) == 0 and start % (end - start) == 0:
        t.labels.tie(axis, length // (end - start))
    else:
        t.labels.fix(axis, SLICED)
    return axis[start:end:step]


def split(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> list[Axes]:
    """Runs of an axis, of one size or of several."""
    x, place = args[0], (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % args[0].dim()
    axes, found, start = t.axes(x), [], 0
    sizes = [part.shape[place] for part in out]
    if len(set(sizes)) > 1:
        t.labels.fix(axes[place], SLICED)
    for size in sizes:
        part = axes[place]
        if not isinstance(part, Bare):
            part = _slice(t, part, start, start + size, 1)
        found.append([*axes[:place], part, *axes[place + 1 :]])
        start += size
    return found


def gated(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """One half of an axis times a function of the other."""
    axes, place = list(t.axes(args[0])), (args[1] if len(args) > 1 else -1) % args[0].dim()
    axes[place] = _slice(t, axes[place], 0, args[0].shape[place] // 2, 1)
    return axes


def select(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """One entry of an axis, which is gone then."""
    axes, place = list(t.axes(args[0])), args[1] % args[0].dim()
    t.labels.fix(axes[place], PICKED)
    return [*axes[:place], *axes[place + 1 :]]


def unbind(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> list[Axes]:
    """All entries of an axis."""
    axes = select(t, (args[0], args[1] if len(args) > 1 else 0), {}, out)
    return [axes for _ in out]


def pick(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Entries of one axis, by a list."""
    axes, place = list(t.axes(args[0])), args[1] % args[0].dim()
    t.labels.fix(axes[place], PICKED)
    axes[place] = RIGID
    return axes


def index(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Entries of some axes by tensors, whose own axes stand where the first of them was, if they are neighbours."""
    axes, number = t.axes(args[0]), 0
    places: list[int] = []
    for given in args[1]:
        wide = given.dim() if given is not None and given.dtype in (torch.bool, torch.uint8) else 1  # a mask
        places += range(number, number + wide) if given is not None else ()
        number += wide
    for place in places:
        t.labels.fix(axes[place], PICKED)
    kept = [axis for number, axis in enumerate(axes) if number not in places]
    neighbours = places == list(range(places[0], places[-1] + 1))
    before = places[0] if neighbours else 0
    more = out.dim() - len(kept)
    return [*kept[:before], *[RIGID] * more, *kept[before:]]


def turned(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Axes are rolled or turned round: what stands at a place depends on how many there are."""
    axes = t.axes(args[0])
    for place in args[-1]:
        t.labels.fix(axes[place], PICKED)
    return axes


def pad(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Constants before and behind, from the last axis on."""
    axes, amounts = list(t.axes(args[0])), args[1]
    for number in range(len(amounts) // 2):
        place, (before, after) = -1 - number, amounts[2 * number : 2 * number + 2]
        axis = axes[place]
        if isinstance(axis, np.ndarray) and (before or after):
            t.labels.fix(axis, SLICED)
            axes[place] = RIGID
    return axes


def unknown(t: Traced, tensors: Sequence[Tensor], reason: str) -> None:
    """Nothing along the axes of these can go."""
    for tensor in tensors:
        for axis in t.axes(tensor):
            t.labels.fix(axis, reason)


def is_pointwise(function: Any) -> bool:
    """Whether an operator is elementwise."""
    return torch.Tag.pointwise in function.tags
