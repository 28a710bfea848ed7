"""What operators with weights do with labels: a layer's inputs are joined with what reads them, outputs are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from compress.pruning.labels import RIGID
from compress.pruning.rules import Axes, Traced


def convolution(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Inputs (N, C, ...), weights (out, C / groups, ...), of a transposed convolution (C, out / groups, ...)."""
    x, weight, bias, groups = args[0], args[1], args[2], args[8]
    axes, weights = t.axes(x), t.axes(weight)
    transposed = bool(args[6])
    for axis in (*axes[2:], *weights[2:]):
        t.labels.fix(axis, "its channels are pixels of a convolution")
    own_in, own_out = (weights[0], weights[1]) if transposed else (weights[1], weights[0])
    if groups == 1:
        t.labels.join(axes[1], own_in)
        made = own_out
    elif groups == weight.shape[0] and weight.shape[1] == 1:
        t.labels.join(axes[1], weights[0])
        made = weights[0]
    elif transposed:
        t.labels.join(axes[1], own_in)
        t.labels.tie(own_in, groups)
        made = np.tile(own_out, groups) if isinstance(own_out, np.ndarray) else own_out
    else:
        if isinstance(own_in, np.ndarray):
            t.labels.join(axes[1], np.tile(own_in, groups))
        else:
            t.labels.fix(axes[1], "its channels go to convolution groups of a single one")
        t.labels.tie(own_out, groups)
        made = own_out
    if isinstance(bias, Tensor):
        t.labels.join(made, t.axes(bias)[0])
    return [axes[0], made, *[RIGID] * (out.dim() - 2)]


def product(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """Matrices, or batches of them: (..., n, k) times (..., k, m) -> (..., n, m); vectors lack an axis."""
    x, y = args[:2]
    one, other = t.axes(x), t.axes(y)
    t.labels.join(one[-1], other[-2] if y.dim() > 1 else other[0])
    batch: Axes = [t.labels.join(a, b) for a, b in zip(one[:-2], other[:-2], strict=False)]
    return [*batch, *one[-2:-1], *(other[-1:] if y.dim() > 1 else [])]


def product_and_sum(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """A bias or more, and a product."""
    axes = product(t, args[1:3], {}, out)
    bias = args[0]
    for number, axis in enumerate(t.axes(bias)):
        if bias.shape[number] > 1:
            place = out.dim() - bias.dim() + number
            axes[place] = t.labels.join(axes[place], axis)
    return axes


def linear(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """(..., in) with weights (out, in) and a bias."""
    axes, weights = list(t.axes(args[0])), t.axes(args[1])
    t.labels.join(axes[-1], weights[1])
    if len(args) > 2 and isinstance(args[2], Tensor):
        t.labels.join(weights[0], t.axes(args[2])[0])
    return [*axes[:-1], weights[0]]


def embedding(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> Axes:
    """A row of the table for each id."""
    rows, columns = t.axes(args[0])
    t.labels.fix(rows, "it has a row for each token or position")
    return [*t.axes(args[1]), columns]


def batch_norm(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> list[Axes]:
    """Channels, the second axis, with weights and statistics for each."""
    axes = t.axes(args[0])
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor):
            t.labels.join(axes[1], t.axes(tensor)[0])
    return [axes, *_bare(out[1:])]


def layer_norm(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> list[Axes]:
    """The last axes, of the shape that is the second argument, with weights of that shape."""
    axes, count = list(t.axes(args[0])), len(args[1])
    for tensor in args[2:4]:
        if isinstance(tensor, Tensor):
            for place, axis in enumerate(t.axes(tensor)):
                axes[place - count] = t.labels.join(axes[place - count], axis)
    return [axes, *_bare(out[1:])]


def group_norm(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> list[Axes]:
    """Channels, the second axis, in groups, with weights for each."""
    axes, channels, groups = t.axes(args[0]), args[4], args[6]
    if 1 < groups < channels:
        t.labels.tie(axes[1], groups)
    for tensor in args[1:3]:
        if isinstance(tensor, Tensor):
            t.labels.join(axes[1], t.axes(tensor)[0])
    return [axes, *_bare(out[1:])]


def attention(t: Traced, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> list[Axes]:
    """Queries (N, H, T, D), keys (N, H, S, D), values (N, H, S, E) -> (N, H, T, E), if heads are as many in each."""
    query, key, value = (t.axes(tensor) for tensor in args[:3])
    for one, other, places in ((query, key, (0, 1, 3)), (key, value, (0, 1, 2))):
        for place in places:
            t.labels.join(one[place], other[place])
    found: Axes = [*query[:3], value[3]]
    return [found, *_bare(out[1:])]


def _bare(results: Sequence[Any]) -> list[Axes]:
    """For results that nobody reads: statistics, states of random generators."""
    return [[RIGID] * result.dim() if isinstance(result, Tensor) else [] for result in results]
