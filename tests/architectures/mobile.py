"""Networks for small devices: squeeze and excitation, hard swish, channels split and shuffled."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.architectures.residual import unit


class SqueezeExcite(nn.Module):
    """Each channel times a factor that all of them decide: Hu et al. 2017 (arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int, act: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.act, self.gate = act, gate

    def forward(self, x: Tensor) -> Tensor:
        factors: Tensor = self.gate(self.fc2(self.act(self.fc1(self.pool(x)))))
        return factors * x


class Inverted(nn.Module):
    """Widen, convolve each channel, weigh channels, narrow; a shortcut where the shape stays."""

    def __init__(
        self,
        inputs: int,
        inner: int,
        outputs: int,
        kernel: int,
        stride: int,
        *,
        act: type[nn.Module],
        squeeze: SqueezeExcite | None,
    ) -> None:
        super().__init__()
        layers = [] if inner == inputs else [unit(inputs, inner, 1, act=act())]
        layers.append(unit(inner, inner, kernel, stride, inner, act()))
        self.layers = nn.Sequential(*layers, *([] if squeeze is None else [squeeze]), unit(inner, outputs, 1))
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.same else y


def mobilenet_v3(num_classes: int, in_channels: int) -> nn.Module:
    """Howard et al. 2019 (arXiv:1905.02244): hard swish, gates of hard sigmoids, a classifier of two layers."""
    rows = [
        (16, 16, 16, 3, 1, nn.ReLU, True), (16, 64, 24, 3, 2, nn.ReLU, False), (24, 72, 24, 3, 1, nn.ReLU, False),
        (24, 96, 40, 5, 2, nn.Hardswish, True), (40, 120, 40, 5, 1, nn.Hardswish, True),
    ]  # fmt: skip
    layers: list[nn.Module] = [unit(in_channels, 16, 3, 2, act=nn.Hardswish())]
    for inputs, inner, outputs, kernel, stride, act, squeezed in rows:
        gate = SqueezeExcite(inner, max(8, inner // 4), nn.ReLU(), nn.Hardsigmoid()) if squeezed else None
        layers.append(Inverted(inputs, inner, outputs, kernel, stride, act=act, squeeze=gate))
    layers += [unit(40, 96, 1, act=nn.Hardswish()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = [nn.Linear(96, 128), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(128, num_classes)]
    return nn.Sequential(*layers, *head)


def efficientnet(num_classes: int, in_channels: int) -> nn.Module:
    """Tan and Le 2019 (arXiv:1905.11946): SiLU, gates of sigmoids squeezed to a quarter of the block's input."""
    rows = [(16, 16, 16, 3, 1), (16, 64, 24, 3, 2), (24, 96, 24, 3, 1), (24, 96, 40, 5, 2), (40, 160, 40, 5, 1)]
    layers: list[nn.Module] = [unit(in_channels, 16, 3, 2, act=nn.SiLU())]
    for inputs, inner, outputs, kernel, stride in rows:
        gate = SqueezeExcite(inner, max(4, inputs // 4), nn.SiLU(), nn.Sigmoid())
        layers.append(Inverted(inputs, inner, outputs, kernel, stride, act=nn.SiLU, squeeze=gate))
    layers += [unit(40, 96, 1, act=nn.SiLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(96, num_classes))


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels of all groups in turn, (N, C, H, W)."""
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return x.transpose(1, 2).contiguous().view(batch, channels, height, width)


class Shuffle(nn.Module):
    """Half of the channels pass, half are convolved; both halves are convolved where the image is halved."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        first = inputs if stride > 1 else half
        self.left = nn.Sequential(unit(inputs, inputs, 3, 2, inputs), unit(inputs, half, 1, act=nn.ReLU()))
        self.right = nn.Sequential(
            unit(first, half, 1, act=nn.ReLU()), unit(half, half, 3, stride, half), unit(half, half, 1, act=nn.ReLU())
        )
        if stride == 1:
            self.left = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        one, other = x.chunk(2, dim=1) if self.stride == 1 else (x, x)
        return shuffled(torch.cat([self.left(one), self.right(other)], dim=1), 2)


def shufflenet_v2(num_classes: int, in_channels: int) -> nn.Module:
    """Ma et al. 2018 (arXiv:1807.11164)."""
    stages = [(16, 32, 2), (32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1)]
    layers = [unit(in_channels, 16, 3, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    layers += [Shuffle(*row) for row in stages]
    layers += [unit(64, 64, 1, act=nn.ReLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, num_classes))
