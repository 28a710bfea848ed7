"""Attention heads: which linear layers make queries, keys and values, and where a module counts its heads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

COUNTS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
"""Attributes that hold a number of heads, in `transformers` and in much of everybody's own code."""
WIDTHS = ("all_head_size", "inner_dim", "attn_dim")
"""Attributes that hold the number of heads times the size of one."""


@dataclass(frozen=True)
class Heads:
    """The attention module `path`, whose linear layers `projections` each give `count` heads of `size` channels."""

    path: str
    count: int
    size: int
    projections: tuple[str, ...]

    def covers(self, path: str, axis: str) -> bool:
        """Whether the channels of an axis are this module's heads."""
        return axis == "out" and path in self.projections

    def is_attended_by(self, outputs: Collection[str]) -> bool:
        """Whether layers that are coupled by their outputs are its queries, keys and values.

        An output projection may be of the same size, but it is not coupled with the others.
        """
        return sum(path in outputs for path in self.projections) >= 3


def find_heads(module: nn.Module) -> list[Heads]:
    """All modules that count heads and own at least three linear layers (query, key, value) whose outputs are heads."""
    found = []
    for path, part in module.named_modules():
        counts = [getattr(part, name) for name in COUNTS if isinstance(getattr(part, name, None), int)]
        if not counts or counts[0] < 1:
            continue
        prefix = f"{path}." if path else ""
        linears = {prefix + n: m for n, m in part.named_children() if isinstance(m, nn.Linear)}
        by_width: dict[int, list[str]] = {}
        for name, linear in linears.items():
            by_width.setdefault(linear.out_features, []).append(name)
        for width, names in by_width.items():
            if len(names) >= 3 and width % counts[0] == 0:
                found.append(Heads(path, counts[0], width // counts[0], tuple(names)))
    return found


def set_heads(module: nn.Module, heads: Heads, count: int) -> None:
    """Correct the attributes of the attention module for `count` heads of the same size as before."""
    part = module.get_submodule(heads.path)
    for name in COUNTS:
        if isinstance(getattr(part, name, None), int):
            setattr(part, name, count)
    for name in WIDTHS:
        if getattr(part, name, None) == heads.count * heads.size:
            setattr(part, name, count * heads.size)
