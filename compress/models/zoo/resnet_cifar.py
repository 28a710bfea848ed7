"""The ResNets for small images of He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2.

Depth 6n+2: a stem, three stages of n blocks whose sizes go down by 2, mean pooling, one linear layer. Names of layers
are those that published CIFAR-10 weights use. The x4 networks are those of Tian et al., "Contrastive Representation
Distillation", 2019 (arXiv:1910.10699), whose first stage is wider than the stem.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from compress.models.zoo.shortcut import PadShortcut
from compress.models.zoo.sizes import initialise, scaled

Option = Literal["A", "B"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the way around them."""

    def __init__(self, in_channels: int, channels: int, stride: int, option: Option) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride, option)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, ceil(H / stride), ceil(W / stride))."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y = y + self.shortcut(x)
        return self.relu2(y)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """`blocks` blocks in each of the stages, whose widths are `channels[1:]`; `channels[0]` is the stem's."""

    def __init__(
        self, blocks: int, channels: tuple[int, ...], option: Option, num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        stem, first, second, third = channels
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = _stage(blocks, stem, first, 1, option)
        self.layer2 = _stage(blocks, first, second, 2, option)
        self.layer3 = _stage(blocks, second, third, 2, option)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(third, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))  # type: ignore[no-any-return]


def resnet(depth: int, *, width: float, shortcut: Option, num_classes: int, in_channels: int) -> ResNet:
    """ResNet-`depth` (6n+2) with 16, 32 and 64 times `width` channels."""
    channels = (scaled(16, width), scaled(16, width), scaled(32, width), scaled(64, width))
    return ResNet((depth - 2) // 6, channels, shortcut, num_classes, in_channels)


def resnet_x4(depth: int, *, width: float, shortcut: Option, num_classes: int, in_channels: int) -> ResNet:
    """ResNet-`depth`x4: a stem of 32 and stages of 64, 128 and 256 times `width` channels."""
    channels = (scaled(32, width), scaled(64, width), scaled(128, width), scaled(256, width))
    return ResNet((depth - 2) // 6, channels, shortcut, num_classes, in_channels)


def _stage(blocks: int, in_channels: int, channels: int, stride: int, option: Option) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride, option)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, option) for _ in range(blocks - 1)))


def _shortcut(in_channels: int, channels: int, stride: int, option: Option) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    if option == "A":
        return PadShortcut(in_channels, channels, stride)
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
