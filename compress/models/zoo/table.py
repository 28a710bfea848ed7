"""The zoo's table: a family's key -> the function that makes its networks (names: `compress.models.zoo.names`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from compress.models.zoo.mobilenet_v2 import mobilenet_v2
from compress.models.zoo.names import match
from compress.models.zoo.resnet_cifar import resnet, resnet_x4
from compress.models.zoo.vgg import vgg
from compress.models.zoo.wide_resnet import wide_resnet

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet": resnet,
    "resnet_x4": resnet_x4,
    "wide_resnet": wide_resnet,
    "vgg": vgg,
    "mobilenet_v2": mobilenet_v2,
}


def build_zoo(
    name: str, *, num_classes: int, in_channels: int, width: float = 1.0, shortcut: str | None = None
) -> nn.Module:
    """The network called `name`, with new weights from torch's global generator.

    `shortcut` (A or B) belongs to ResNets and is their paper's where it is None.

    Raises:
        ValueError: no network has this name.
    """
    family, numbers = match(name)
    options: dict[str, Any] = {"width": width, "num_classes": num_classes, "in_channels": in_channels}
    if family.shortcut is not None:
        options["shortcut"] = shortcut or family.shortcut
    return NETWORKS[family.key](*numbers, **options)
