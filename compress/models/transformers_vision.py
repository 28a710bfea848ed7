"""Image classifiers of the `transformers` library: from a configuration, a local folder or a hub name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.need import Need
from compress.models.transformers_library import at_rest, fit_classes, is_given, make_network, opened

AUTO_CLASS = "AutoModelForImageClassification"


class Logits(nn.Module):
    """A `transformers` classifier, in `network`, whose answer is its logits alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits (N, classes)."""
        return self.network(pixel_values=pixel_values).logits  # type: ignore[no-any-return]


def configuration(
    given: str | Mapping[str, Any], arguments: Mapping[str, Any], need: Need, new_head: bool
) -> dict[str, Any]:
    """The complete configuration of the network that `given` (folder, hub name or a configuration) means.

    What a configuration leaves open is taken from the data: the number of classes, channels and the image size.
    `arguments` of a folder or hub name go to `AutoConfig` (`revision`, changed values).

    Raises:
        UsageError: there is no such network, or it does not fit the data.
    """
    image = need.one_image("a transformers image classifier")
    config, given_keys = opened(given, arguments)
    fit_classes(config, given_keys, need.vector("a transformers image classifier"), given, new_head)
    _fit_images(config, given_keys, image)
    return at_rest(config)


def build(config: Mapping[str, Any]) -> Logits:
    """The network of a complete configuration, with new weights."""
    return Logits(make_network(AUTO_CLASS, config))


def _fit_images(config: Any, given_keys: set[str], image: tuple[int, int, int]) -> None:
    """Set channels and image size from the data where the configuration left them open; refuse a contradiction."""
    channels, height, width = image
    if not is_given(config, "num_channels", given_keys) and hasattr(config, "num_channels"):
        config.num_channels = channels
    if not is_given(config, "image_size", given_keys) and hasattr(config, "image_size"):
        config.image_size = height if height == width else (height, width)
    if getattr(config, "num_channels", channels) != channels:
        raise UsageError(
            f"transformers: the network takes images of {config.num_channels} channels and the data give {channels}; "
            "change the preprocessing (`color: rgb` or `color: grey`)"
        )
