"""Channel counts and first weights, shared by the networks of the zoo."""

from __future__ import annotations

from torch import nn


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded, at least 1."""
    return max(1, round(channels * width))


def divisible(channels: float, divisor: int = 8) -> int:
    """`channels` rounded to a multiple of `divisor`, at least one of them and never more than 10 % below.

    The rule of Sandler et al., "MobileNetV2", 2018, in its authors' code.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def initialise(network: nn.Module) -> None:
    """Normal weights of variance 2 / fan_out for convolutions, ones and zeros for batch norms, small linear layers.

    He et al., "Delving Deep into Rectifiers", 2015, equation 14.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
