"""Which groups are built alike, so that their units may be ranked among themselves.

Fang, Ma, Mi, Wang, "Isomorphic Pruning for Vision Models", ECCV 2024 (arXiv:2407.04616): importance is spread
differently over sub-structures of different topology, such as attention heads, feed-forward channels and the residual
stream; it compares within one topology, whatever the widths.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from torch import nn

from compress.pruning.groups import Group, Member


def isomorphism_classes(module: nn.Module, groups: Sequence[Group]) -> dict[str, Hashable]:
    """For each group by name its class: equal for groups that are isomorphic.

    They are if their members are layers of the same types, on the same axes and in the same order, and their units are
    of the same size and are both attention heads or both not. Widths, kernels and strides do not matter.
    """
    return {
        group.name: (
            tuple((_kind(module, member), member.axis) for member in group.members),
            group.unit_size,
            group.heads is not None,
        )
        for group in groups
    }


def _kind(module: nn.Module, member: Member) -> str:
    layer = module.get_submodule(member.path) if member.dim is None else module.get_parameter(member.path)
    return f"{type(layer).__module__}.{type(layer).__qualname__}"
