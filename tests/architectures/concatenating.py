"""Networks that put channels side by side: DenseNet and U-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dense(nn.Module):
    """A layer of a dense block, which adds its channels to all those before."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(inplace=True), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], dim=1)


def densenet(num_classes: int, in_channels: int) -> nn.Module:
    """Huang et al. 2016 (arXiv:1608.06993): two dense blocks of three layers, a transition that halves between them."""
    growth, channels = 12, 24
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
    ]  # fmt: skip
    for block in range(2):
        if block:
            half = channels // 2
            layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, half, 1, bias=False)]
            layers, channels = [*layers, nn.AvgPool2d(2)], half
        for _ in range(3):
            layers, channels = [*layers, Dense(channels, growth)], channels + growth
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, num_classes))


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two levels down and up: once by a transposed convolution, once by interpolation; skips are concatenated."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.first, self.second, self.bottom = _twice(in_channels, 16), _twice(16, 32), _twice(32, 64)
        self.pool = nn.MaxPool2d(2)
        self.up1 = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.up2 = nn.Sequential(nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(32, 16, 1))
        self.join1, self.join2 = _twice(64, 32), _twice(32, 16)
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.first(x)
        coarse = self.second(self.pool(fine))
        y = self.join1(torch.cat([coarse, self.up1(self.bottom(self.pool(coarse)))], dim=1))
        return self.head(self.join2(torch.cat([fine, self.up2(y)], dim=1)))  # type: ignore[no-any-return]


def unet(num_classes: int, in_channels: int) -> nn.Module:
    """Ronneberger et al. 2015 (arXiv:1505.04597), padded; the output is an image of `num_classes` channels."""
    return UNet(num_classes, in_channels)
