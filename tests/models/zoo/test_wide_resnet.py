from __future__ import annotations

import pytest
import torch

from compress.models.count import count_parameters
from compress.models.zoo.table import build_zoo
from compress.models.zoo.wide_resnet import WideBlock


@pytest.mark.parametrize(
    ("name", "millions"), [("wrn_40_1", 0.6), ("wrn_40_2", 2.2), ("wrn_40_4", 8.9), ("wrn_16_8", 11.0)]
)
def test_parameters_are_those_of_the_papers_table_5(name: str, millions: float) -> None:
    count = count_parameters(build_zoo(name, num_classes=10, in_channels=3)) / 1e6
    assert count == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(("name", "count"), [("wrn_16_2", 703_284), ("wrn_40_2", 2_255_156), ("wrn_40_1", 569_780)])
def test_parameters_are_those_of_the_distillation_literature(name: str, count: int) -> None:
    assert count_parameters(build_zoo(name, num_classes=100, in_channels=3)) == count


def test_a_block_whose_convolutions_are_zero_passes_its_input_on() -> None:
    block = WideBlock(4, 4, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x)
