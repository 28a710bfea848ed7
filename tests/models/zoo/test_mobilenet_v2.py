from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.models.count import count_parameters
from compress.models.zoo.mobilenet_v2 import InvertedResidual
from compress.models.zoo.table import build_zoo


@pytest.mark.parametrize(("width", "count"), [(1.0, 3_504_872), (1.4, 6_108_776), (0.5, 1_968_680)])
def test_parameters_are_those_of_the_published_networks(width: float, count: int) -> None:
    """Strides have no parameters: with 1,000 classes the counts are those of the ImageNet networks (3.4 M, 6.9 M)."""
    network = build_zoo("mobilenet_v2", num_classes=1000, in_channels=3, width=width)
    assert count_parameters(network) == count


def test_small_images_end_as_four_by_four() -> None:
    network = build_zoo("mobilenet_v2", num_classes=10, in_channels=3, width=0.25).eval()
    sizes = []
    assert isinstance(network.pool, nn.Module)
    network.pool.register_forward_hook(lambda _module, inputs, _output: sizes.append(tuple(inputs[0].shape[2:])))
    network(torch.zeros(1, 3, 32, 32))
    assert sizes == [(4, 4)]


def test_residuals_are_where_sizes_stay() -> None:
    network = build_zoo("mobilenet_v2", num_classes=10, in_channels=3)
    blocks = [part for part in network.modules() if isinstance(part, InvertedResidual)]
    assert len(blocks) == 17
    assert sum(block.residual for block in blocks) == 10
