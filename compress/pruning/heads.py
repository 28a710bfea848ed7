"""Attention heads: where a module counts them, and what it says of their number and size.

Of attention either whole heads go, or channels of every head alike. The second changes the scale of its scores, which
most networks take as one over the root of a head's size: the queries make up for that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compress.pruning.layers import layout

AttentionPart = Literal["heads", "head_width"]
"""What of attention goes: whole heads, or channels of every head."""

COUNTS = (
    "num_attention_heads", "num_heads", "n_heads", "n_head", "nhead", "heads", "num_key_value_heads", "num_kv_heads",
    "n_kv_heads",
)  # fmt: skip
"""Attributes that hold a number of heads, in `transformers` and in much of everybody's own code."""
SIZES = ("attention_head_size", "head_dim", "dim_per_head", "d_head", "head_size", "key_value_proj_dim")
"""Attributes that hold the size of a head."""
WIDTHS = ("all_head_size", "inner_dim", "attn_dim", "split_size", "dim", "embed_dim")
"""Attributes that hold the number of heads times the size of one."""
SCALES = ("scaling", "scale", "scale_factor", "norm_factor")
"""Attributes that hold one over the root of a head's size."""


@dataclass(frozen=True)
class Heads:
    """The attention module `path` splits channels into `count` heads of `size` channels.

    `queries` are the layers that make queries, with the channels that are. A unit of pruning is a head, or with `goes`
    the channel of one number in every head.
    """

    path: str
    count: int
    size: int
    queries: tuple[tuple[str, tuple[int, ...]], ...] = ()
    goes: AttentionPart = "heads"

    def units_left(self, kept: int, units: int) -> int:
        """Heads, or channels of a head, that are left of it once a group keeps so many of its units."""
        return (self.count if self.goes == "heads" else self.size) * kept // units


@dataclass(frozen=True)
class Split:
    """Heads as they were traced: the labels of the axis that loses entries, and which module made it."""

    path: str
    labels: Any
    count: int
    size: int


@dataclass(frozen=True)
class Attention:
    """What was traced of attention: where heads were split, of each label whether it makes queries, and what may go."""

    splits: tuple[Split, ...]
    queries: NDArray[np.bool_]
    part: AttentionPart


def head_axis(part: nn.Module, sizes: Sequence[int]) -> int | None:
    """Which of the axes that a module splits one into is that of heads; None if it does not count any."""
    counts = _values(part, COUNTS)
    for place in range(len(sizes) - 1):
        if sizes[place] in counts and sizes[place] > 1:
            return place
    return len(sizes) - 2 if sizes[-1] in _values(part, SIZES) else None


def set_heads(module: nn.Module, changes: Iterable[tuple[Heads, int]]) -> None:
    """Correct the attributes of attention modules, each with the units that are left: heads, or channels of a head."""
    written: dict[tuple[str, str], float] = {}
    for heads, left in changes:
        count, size = (left, heads.size) if heads.goes == "heads" else (heads.count, left)
        part = module.get_submodule(heads.path)
        named = (
            dict.fromkeys(COUNTS, (heads.count, count))
            | dict.fromkeys(SIZES, (heads.size, size))
            | dict.fromkeys(WIDTHS, (heads.count * heads.size, count * size))
        )
        for name, (before, after) in named.items():
            if before != after and _is_count(part, name) and getattr(part, name) == before:
                written[heads.path, name] = after
        for name in SCALES:
            value = vars(part).get(name)
            if isinstance(value, float) and size != heads.size and isclose(value, heads.size**-0.5):
                written[heads.path, name] = size**-0.5
    for (path, name), value in written.items():
        setattr(module.get_submodule(path), name, value)


@torch.no_grad()
def scale_queries(module: nn.Module, changes: Iterable[tuple[Heads, int]]) -> None:
    """Multiply queries by the root of how much of a head is left, before it is cut: then scores stay as they are."""
    factors = {
        query: (left / heads.size) ** 0.5
        for heads, left in changes
        if heads.goes == "head_width" and left != heads.size
        for query in heads.queries
    }
    for (path, channels), factor in factors.items():
        layer = module.get_submodule(path)
        found = layout(layer, "out")
        for slot in found.slots if found else ():
            tensor = getattr(layer, slot.name)
            rows = torch.tensor(channels, device=tensor.device)
            tensor.index_copy_(slot.dim, rows, tensor.index_select(slot.dim, rows) * factor)


def _values(part: nn.Module, names: Collection[str]) -> set[int]:
    return {getattr(part, name) for name in names if _is_count(part, name)}


def _is_count(part: nn.Module, name: str) -> bool:
    value = vars(part).get(name)
    return isinstance(value, int) and not isinstance(value, bool)
