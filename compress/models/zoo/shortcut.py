"""The shortcut without parameters: every second pixel, and zeros for the channels that are new.

Option A of He et al., "Deep Residual Learning for Image Recognition", 2015 (arXiv:1512.03385), section 3.3.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ZERO = -1
"""Stands in `PadShortcut.source` for an output channel that is zero."""


class PadShortcut(nn.Module):
    """Subsample height and width by `stride` and give each output channel one input channel, or zeros.

    `source` is the whole truth: `source[j]` is the input channel that output channel `j` shows, `ZERO` if none. At
    first the inputs stand in one run with zeros on both sides, and the forward pass is two slices and a pad, in torch
    as in ONNX. It stays that way after pruning as long as they are a run; otherwise channels are picked by `index`,
    a buffer that is made for it (input channel `in_channels` means zeros) and is None before.

    Pruning: `drop_inputs` and `drop_outputs` take channels away. An output whose input is gone becomes zero, just as
    it would if that input channel were masked; an input that no output shows is read and left out. All state is plain
    attributes and one buffer, so `compress.models.edits` can write it down.
    """

    index: Tensor | None

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        if out_channels < in_channels:
            raise ValueError(f"a shortcut by padding cannot go from {in_channels} to {out_channels} channels")
        before = (out_channels - in_channels) // 2
        after = out_channels - in_channels - before
        self.stride = stride
        self.register_buffer("index", None, persistent=False)
        self._set(in_channels, (*[ZERO] * before, *range(in_channels), *[ZERO] * after))

    def _set(self, in_channels: int, source: Sequence[int]) -> None:
        self.in_channels = in_channels
        self.out_channels = len(source)
        self.source = tuple(int(channel) for channel in source)
        self.run = as_run(self.source)
        index = torch.tensor([in_channels if channel == ZERO else channel for channel in self.source])
        self.index = None if self.run else index if self.index is None else index.to(self.index.device)

    def drop_inputs(self, channels: Collection[int]) -> None:
        """Take input channels away; the outputs that showed them become zero and stay."""
        kept = [channel for channel in range(self.in_channels) if channel not in set(channels)]
        place = {channel: position for position, channel in enumerate(kept)}
        self._set(len(kept), [place.get(channel, ZERO) for channel in self.source])

    def drop_outputs(self, channels: Collection[int]) -> None:
        """Take output channels away."""
        gone = set(channels)
        self._set(self.in_channels, [channel for position, channel in enumerate(self.source) if position not in gone])

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.run:
            before, first, count, after = self.run
            if count < self.in_channels:
                x = x[:, first : first + count]
            return functional.pad(x, (0, 0, 0, 0, before, after)) if before or after else x
        assert self.index is not None
        return functional.pad(x, (0, 0, 0, 0, 0, 1)).index_select(1, self.index)

    def extra_repr(self) -> str:
        """What `print` shows."""
        shape = f"zeros, channels, zeros = {self.run[0], self.run[2], self.run[3]}" if self.run else "picked by index"
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}, {shape}"


def as_run(source: Sequence[int]) -> tuple[int, int, int, int] | None:
    """(zeros before, first input channel, count, zeros after) if the inputs in `source` are one run, else None."""
    places = [position for position, channel in enumerate(source) if channel != ZERO]
    if not places:
        return None
    before, count = places[0], len(places)
    first = source[before]
    run = (*[ZERO] * before, *range(first, first + count), *[ZERO] * (len(source) - before - count))
    return (before, first, count, len(source) - before - count) if run == tuple(source) else None
