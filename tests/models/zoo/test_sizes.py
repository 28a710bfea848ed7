from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.models.zoo.sizes import divisible, initialise, scaled


@pytest.mark.parametrize(("channels", "width", "expected"), [(16, 1, 16), (16, 4, 64), (16, 0.3, 5), (16, 0.01, 1)])
def test_scaled_rounds_and_keeps_one(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


@pytest.mark.parametrize(("channels", "expected"), [(32, 32), (33.6, 32), (11.2, 16), (3, 8), (44.8, 48), (22.4, 24)])
def test_divisible_never_loses_more_than_a_tenth(channels: float, expected: int) -> None:
    assert divisible(channels) == expected
    assert divisible(channels) >= 0.9 * channels


def test_first_weights_keep_the_variance_of_activations() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(*(part for _ in range(8) for part in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())))
    initialise(layers)
    x = torch.randn(4, 64, 16, 16)
    with torch.no_grad():
        y = layers(x)
    assert 0.2 < (y.square().mean() / x.square().mean()).item() < 2
