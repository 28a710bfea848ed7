"""Two small networks and how to make them hard for int8 without changing what they compute in float."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OUTLIERS, FACTOR = 4, 96.0
"""Channels that are made outliers, and by how much."""


class Inverted(nn.Module):
    """An inverted residual block with ReLU (Sandler et al. 2018 has ReLU6)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 3 * channels
        self.expand = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU()
        )
        self.project = nn.Sequential(nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, out, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.adds else y


class Depthwise(nn.Module):
    """A depthwise network for 32x32 images, about 0.1 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        widths = [(24, 24, 1), (24, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1), (48, 64, 2), (64, 64, 1)]
        self.blocks = nn.Sequential(*(Inverted(*width) for width in widths))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) -> (N, 10)."""
        y: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return y


class Layer(nn.Module):
    """A transformer layer with its normalizations first (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, tokens, width), the same back."""
        y = self.before_attention(x)
        query, key, value = (
            layer(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        scores = (query @ key.transpose(2, 3)) * query.shape[-1] ** -0.5
        x = x + self.out((scores.softmax(-1) @ value).transpose(1, 2).flatten(2))
        y = self.before_feed_forward(x)
        z: Tensor = x + self.down(nn.functional.gelu(self.up(y)))
        return z


class Transformer(nn.Module):
    """A vision transformer for 32x32 images in patches of 4, about 0.5 million parameters."""

    def __init__(self, width: int = 96, layers: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.places = nn.Parameter(0.02 * torch.randn(1, 64, width))
        self.layers = nn.Sequential(*(Layer(width, 4) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 32, 32) -> (N, 10)."""
        y = self.patches(x).flatten(2).transpose(1, 2) + self.places
        z: Tensor = self.head(self.norm(self.layers(y)).mean(1))
        return z


@torch.no_grad()
def make_hard(network: nn.Module) -> None:
    """Let some channels between two layers hold numbers that are `FACTOR` times as large, and undo that behind them.

    The float network computes the same up to rounding. Such outliers are what trained MobileNets (Nagel et al. 2019)
    and large transformers (Dettmers et al. 2022) have; small ones trained for minutes do not.
    """
    for block in network.modules():
        if isinstance(block, Inverted):
            for before, after in ((block.expand, block.depthwise), (block.depthwise, block.project)):
                norm, reader = before[1], after[0]
                assert isinstance(norm, nn.BatchNorm2d)
                assert isinstance(reader, nn.Conv2d)
                scale = _outliers(norm.num_features)
                norm.weight.mul_(scale)
                norm.bias.mul_(scale)
                reader.weight.div_(scale.reshape((-1, 1, 1, 1) if reader.groups > 1 else (1, -1, 1, 1)))
        elif isinstance(block, Layer):
            attention = (block.before_attention, (block.query, block.key, block.value))
            for layer_norm, readers in (attention, (block.before_feed_forward, (block.up,))):
                scale = _outliers(len(layer_norm.weight))
                layer_norm.weight.mul_(scale)
                layer_norm.bias.mul_(scale)
                for linear in readers:
                    linear.weight.div_(scale)


def _outliers(channels: int) -> Tensor:
    scale = torch.ones(channels)
    scale[:: channels // OUTLIERS][:OUTLIERS] = FACTOR
    return scale


def depthwise() -> nn.Module:
    """For `models: {net: {python: ...}}`."""
    return Depthwise()


def transformer() -> nn.Module:
    """For `models: {net: {python: ...}}`."""
    return Transformer()
