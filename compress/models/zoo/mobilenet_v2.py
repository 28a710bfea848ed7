"""MobileNetV2 for small images: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018.

Table 2 of arXiv:1801.04381 with the first two strides taken out, so that a 32x32 image ends as 4x4 rather than 1x1;
the layers and their sizes are the paper's.
"""

from __future__ import annotations

from torch import Tensor, nn

from compress.models.zoo.sizes import divisible, initialise

ROWS: tuple[tuple[int, int, int, int], ...] = (
    # expansion, channels, repeats, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 1),  # stride 2 in the paper
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection without activation; around them where sizes stay."""

    def __init__(self, in_channels: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = _convolution(in_channels, hidden, 1) if expansion != 1 else []
        depthwise = _convolution(hidden, hidden, 3, stride, groups=hidden)
        project = [nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.layers = nn.Sequential(*expand, *depthwise, *project)
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, channels, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Inverted residuals between a stem and a 1x1 convolution, mean pooling, one linear layer."""

    def __init__(self, width: float, num_classes: int, in_channels: int) -> None:
        super().__init__()
        last = divisible(32 * width)
        layers = _convolution(in_channels, last, 3)  # stride 2 in the paper
        for expansion, base, repeats, stride in ROWS:
            channels = divisible(base * width)
            for repeat in range(repeats):
                layers.append(InvertedResidual(last, channels, expansion, 1 if repeat else stride))
                last = channels
        final = divisible(1280 * max(1.0, width))
        self.features = nn.Sequential(*layers, *_convolution(last, final, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(final, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, num_classes)."""
        return self.classifier(self.flatten(self.pool(self.features(x))))  # type: ignore[no-any-return]


def mobilenet_v2(*, width: float, num_classes: int, in_channels: int) -> MobileNetV2:
    """MobileNetV2 with the paper's width multiplier `width`; channels are multiples of 8."""
    return MobileNetV2(width, num_classes, in_channels)


def _convolution(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU6()]
