"""VGG with batch norm for small images: Simonyan and Zisserman, 2014 (arXiv:1409.1556), table 1.

In the form that the distillation literature uses (Tian et al., "Contrastive Representation Distillation", 2019): five
groups of 3x3 convolutions, max pooling between them, mean pooling and a single linear layer after them.
"""

from __future__ import annotations

from torch import Tensor, nn

from compress.models.zoo.sizes import initialise, scaled

GROUPS: dict[int, tuple[tuple[int, ...], ...]] = {
    8: ((64,), (128,), (256,), (512,), (512,)),
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    19: ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}


class VGG(nn.Module):
    """Groups of convolutions, each followed by batch norm and ReLU."""

    def __init__(self, groups: tuple[tuple[int, ...], ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = in_channels
        for number, group in enumerate(groups):
            if number:
                layers.append(nn.MaxPool2d(2))
            for channels in group:
                layers += [nn.Conv2d(last, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
                last = channels
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(last, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) with H and W at least 16 -> logits (N, num_classes)."""
        return self.classifier(self.flatten(self.pool(self.features(x))))  # type: ignore[no-any-return]


def vgg(depth: int, *, width: float, num_classes: int, in_channels: int) -> VGG:
    """VGG-`depth` (8, 11, 13, 16 or 19) with batch norm and `width` times the paper's channels."""
    groups = tuple(tuple(scaled(channels, width) for channels in group) for group in GROUPS[depth])
    return VGG(groups, num_classes, in_channels)
