from __future__ import annotations

import pytest
from torch import nn

from compress.models.count import count_parameters
from compress.models.zoo.table import build_zoo
from compress.models.zoo.vgg import GROUPS


@pytest.mark.parametrize(("name", "count"), [("vgg8", 3_965_028), ("vgg13", 9_462_180)])
def test_parameters_are_those_of_the_distillation_literature(name: str, count: int) -> None:
    assert count_parameters(build_zoo(name, num_classes=100, in_channels=3)) == count


@pytest.mark.parametrize(("depth", "millions"), [(11, 9.2), (13, 9.4), (16, 14.7), (19, 20.0)])
def test_convolutions_have_the_papers_parameters(depth: int, millions: float) -> None:
    """The paper's table 2 counts 133, 133, 138 and 144 million, of which its three linear layers have 123.6."""
    network = build_zoo(f"vgg{depth}", num_classes=10, in_channels=3)
    convolutions = sum(count_parameters(part) for part in network.modules() if isinstance(part, nn.Conv2d)) / 1e6
    assert convolutions == pytest.approx(millions, abs=0.05)


def test_depth_is_the_number_of_layers_with_weights() -> None:
    """The paper's networks end in three linear layers, which are one here; VGG-8 is the literature's 5 + 3."""
    assert {depth: sum(map(len, groups)) + 3 for depth, groups in GROUPS.items()} == {d: d for d in GROUPS}
