"""Wide ResNets: Zagoruyko and Komodakis, "Wide Residual Networks", 2016 (arXiv:1605.07146), table 1.

Depth 6n+4: a stem of 16 channels and three stages of n pre-activation blocks with 16k, 32k and 64k channels.
"""

from __future__ import annotations

from torch import Tensor, nn

from compress.models.zoo.sizes import initialise, scaled


class WideBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions; a 1x1 convolution around them where sizes change."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.changes = stride != 1 or in_channels != channels
        self.shortcut: nn.Module = nn.Identity()
        if self.changes:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, ceil(H / stride), ceil(W / stride))."""
        active = self.relu1(self.bn1(x))
        y = self.conv2(self.relu2(self.bn2(self.conv1(active))))
        return y + self.shortcut(active if self.changes else x)  # type: ignore[no-any-return]


class WideResNet(nn.Module):
    """`blocks` blocks in each of three stages; `channels` are those of the stem and the stages."""

    def __init__(self, blocks: int, channels: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        stem, first, second, third = channels
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.layer1 = _stage(blocks, stem, first, 1)
        self.layer2 = _stage(blocks, first, second, 2)
        self.layer3 = _stage(blocks, second, third, 2)
        self.bn1 = nn.BatchNorm2d(third)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(third, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        x = self.relu(self.bn1(x))
        return self.linear(self.flatten(self.pool(x)))  # type: ignore[no-any-return]


def wide_resnet(depth: int, widening: int, *, width: float, num_classes: int, in_channels: int) -> WideResNet:
    """WRN-`depth`-`widening` (depth 6n+4); `width` multiplies all channels, the stem's too."""
    channels = (scaled(16, width), *(scaled(base * widening, width) for base in (16, 32, 64)))
    return WideResNet((depth - 4) // 6, channels, num_classes, in_channels)


def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
    first = WideBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(WideBlock(channels, channels, 1) for _ in range(blocks - 1)))
