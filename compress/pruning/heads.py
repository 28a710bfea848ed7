"""Attention heads: where a module counts them, and what it says of their number and size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

COUNTS = (
    "num_attention_heads", "num_heads", "n_heads", "n_head", "nhead", "heads", "num_key_value_heads", "num_kv_heads",
    "n_kv_heads",
)  # fmt: skip
"""Attributes that hold a number of heads, in `transformers` and in much of everybody's own code."""
SIZES = ("attention_head_size", "head_dim", "dim_per_head", "d_head", "head_size", "key_value_proj_dim")
"""Attributes that hold the size of a head."""
WIDTHS = ("all_head_size", "inner_dim", "attn_dim", "split_size", "dim", "embed_dim")
"""Attributes that hold the number of heads times the size of one."""


@dataclass(frozen=True)
class Heads:
    """The attention module `path` splits channels into `count` heads of `size` channels.

    `projections` are the layers that make them.
    """

    path: str
    count: int
    size: int
    projections: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """An axis of heads as it was traced: its labels, and which module made it."""

    path: str
    labels: Any
    count: int
    size: int


def head_axis(part: nn.Module, sizes: Sequence[int]) -> int | None:
    """Which of the axes that a module splits one into is that of heads; None if it does not count any."""
    counts = _values(part, COUNTS)
    for place in range(len(sizes) - 1):
        if sizes[place] in counts and sizes[place] > 1:
            return place
    return len(sizes) - 2 if sizes[-1] in _values(part, SIZES) else None


def set_heads(module: nn.Module, changes: Iterable[tuple[Heads, int]]) -> None:
    """Correct the attributes of attention modules, each with its new number of heads, of the same size as before."""
    written: dict[tuple[str, str], int] = {}
    for heads, count in changes:
        part = module.get_submodule(heads.path)
        named = dict.fromkeys(COUNTS, heads.count) | dict.fromkeys(WIDTHS, heads.count * heads.size)
        for name, before in named.items():
            if _is_count(part, name) and getattr(part, name) == before:
                written[heads.path, name] = count * before // heads.count
    for (path, name), value in written.items():
        setattr(module.get_submodule(path), name, value)


def _values(part: nn.Module, names: Collection[str]) -> set[int]:
    return {getattr(part, name) for name in names if _is_count(part, name)}


def _is_count(part: nn.Module, name: str) -> bool:
    value = vars(part).get(name)
    return isinstance(value, int) and not isinstance(value, bool)
