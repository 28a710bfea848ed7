"""Residual networks as torchvision has them, a few channels wide: basic, bottleneck and grouped blocks."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Block = Callable[[int, int, int], nn.Module]


def unit(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Sequential:
    """A convolution, its batch norm and, if there is one, an activation."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([] if act is None else [act]))


class Residual(nn.Module):
    """Layers and a shortcut, which is a convolution where the shape changes."""

    def __init__(self, layers: nn.Sequential, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = layers
        same = inputs == outputs and stride == 1
        self.downsample = None if same else unit(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.layers(x) + shortcut)  # type: ignore[no-any-return]


def _basic(inputs: int, width: int, stride: int) -> Residual:
    layers = nn.Sequential(unit(inputs, width, 3, stride, act=nn.ReLU(inplace=True)), unit(width, width, 3))
    return Residual(layers, inputs, width, stride)


def _bottleneck(inputs: int, width: int, stride: int, groups: int = 1) -> Residual:
    inner = width if groups == 1 else 2 * width
    layers = nn.Sequential(
        unit(inputs, inner, 1, act=nn.ReLU(inplace=True)),
        unit(inner, inner, 3, stride, groups, nn.ReLU(inplace=True)),
        unit(inner, 4 * width, 1),
    )
    return Residual(layers, inputs, 4 * width, stride)


def _network(block: Block, widths: tuple[int, ...], expansion: int, num_classes: int, in_channels: int) -> nn.Module:
    stem = [*unit(in_channels, widths[0], 7, 2, act=nn.ReLU(inplace=True)), nn.MaxPool2d(3, 2, 1)]
    layers, last = [*stem], widths[0]
    for stage, width in enumerate(widths):
        for number in range(2):
            layers.append(block(last, width, 2 if stage and not number else 1))
            last = width * expansion
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes))


def resnet18(num_classes: int, in_channels: int) -> nn.Module:
    """Basic blocks, shortcuts by convolution: He et al. 2015 (arXiv:1512.03385)."""
    return _network(_basic, (16, 32, 64), 1, num_classes, in_channels)


def resnet50(num_classes: int, in_channels: int) -> nn.Module:
    """Bottleneck blocks, the stride on the 3x3 convolution, as torchvision has it."""
    return _network(_bottleneck, (8, 16), 4, num_classes, in_channels)


def resnext(num_classes: int, in_channels: int) -> nn.Module:
    """Bottleneck blocks of convolutions in 4 groups: Xie et al. 2016 (arXiv:1611.05431)."""
    return _network(
        lambda inputs, width, stride: _bottleneck(inputs, width, stride, 4), (8, 16), 4, num_classes, in_channels
    )
