from __future__ import annotations

import pytest
import torch

from compress.models.zoo.names import FAMILIES
from compress.models.zoo.table import NETWORKS, build_zoo


def test_names_and_networks_agree() -> None:
    assert {family.key for family in FAMILIES} == NETWORKS.keys()


@pytest.mark.parametrize("name", ["resnet8", "resnet8x4", "wrn_16_2", "vgg8", "mobilenet_v2"])
@pytest.mark.parametrize("width", [0.25, 0.5])
def test_every_family_takes_a_width_channels_and_classes(name: str, width: float) -> None:
    size = next(family.smallest for family in FAMILIES if name in family.examples)
    size = max(size, 8)
    network = build_zoo(name, num_classes=7, in_channels=1, width=width).eval()
    assert network(torch.zeros(2, 1, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", ["resnet8", "resnet8x4", "wrn_16_2", "vgg8", "mobilenet_v2"])
def test_networks_export_with_a_dynamic_batch_and_change_nothing_in_place(name: str) -> None:
    size = max(8, next(family.smallest for family in FAMILIES if name in family.examples))
    network = build_zoo(name, num_classes=3, in_channels=1, width=0.25).eval()
    example = torch.randn(2, 1, size, size)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    other = torch.randn(5, 1, size, size)
    assert torch.equal(program.module()(other), network(other))
    assert not [str(node.target) for node in program.graph.nodes if "_." in str(node.target)]  # none in place
