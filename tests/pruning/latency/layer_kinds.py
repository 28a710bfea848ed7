"""A kind of layer for every operator, and the layer of torch that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compress.pruning.latency.kinds import LayerKind

KINDS = {
    "conv": LayerKind("conv", (8, 6), (3, 3), (1, 1), (1, 1), (1, 1)),
    "strided": LayerKind("conv", (8, 6), (3, 1), (2, 1), (1, 0), (1, 1)),
    "dilated": LayerKind("conv", (8, 8), (3, 3), (1, 1), (2, 2), (2, 2)),
    "grouped": LayerKind("conv", (8, 6), (3, 3), (1, 1), (1, 1), (1, 1), groups=4),
    "depthwise": LayerKind("depthwise", (8, 6), (3, 3), (2, 2), (1, 1), (1, 1)),
    "conv_transpose": LayerKind("conv_transpose", (4, 3), (2, 2), (2, 2), (0, 0), (1, 1)),
    "grouped_transpose": LayerKind("conv_transpose", (4, 3), (3, 3), (2, 2), (1, 1), (1, 1), groups=2),
    "row": LayerKind("linear", (1,)),
    "rows": LayerKind("linear", (17,)),
    "attention": LayerKind("attention", (3, 17), head=8),
    "narrow_attention": LayerKind("attention", (1, 17), heads=4),
}
POINTS = [(8, 8), (8, 24), (16, 8)]
SQUARE = [(8, 8), (24, 24)]
"""Of layers whose inputs are their outputs."""


def points(kind: LayerKind) -> Sequence[tuple[int, int]]:
    """Pairs of channel counts that such a layer may have."""
    return SQUARE if kind.operator in ("depthwise", "attention") else POINTS


def answer(kind: LayerKind, batch: int, inputs: int, outputs: int) -> Tensor:
    """What torch's own layer gives for zeros."""
    with torch.no_grad():
        if kind.operator == "attention":
            sequences, tokens = kind.size
            count = kind.heads or inputs // kind.head
            heads = torch.zeros(batch * sequences, count, tokens, inputs // count)
            return nn.functional.scaled_dot_product_attention(heads, heads, heads)
        if kind.operator == "linear":
            rows = kind.size if kind.size[0] > 1 else ()
            linear: Tensor = nn.Linear(inputs, outputs)(torch.zeros(batch, *rows, inputs))
            return linear
        layer: Any = nn.ConvTranspose2d if kind.operator == "conv_transpose" else nn.Conv2d
        made = layer(
            inputs, outputs, kind.kernel, kind.stride, kind.padding,
            groups=inputs if kind.operator == "depthwise" else kind.groups, dilation=kind.dilation,
        )  # fmt: skip
        found: Tensor = made(torch.zeros(batch, inputs, *kind.size))
        return found
