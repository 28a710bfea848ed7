from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from compress.pruning.latency.structure import structure


class Scaled(nn.Module):
    """One layer, and a number in its code."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(4, 4), factor

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x)
        return output * self.factor


def test_other_weights_are_the_same_structure_and_other_sizes_are_not() -> None:
    def net(width: int, kernel: int = 3) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, width, kernel, padding=kernel // 2), nn.ReLU(), nn.Conv2d(width, 5, 1))

    x = [torch.randn(2, 3, 8, 8)]
    found = structure(net(8), x)
    assert structure(net(8), x) == found
    assert structure(net(8), [torch.randn(1, 3, 8, 8)]) == found  # one example is what runs
    assert structure(net(7), x) != found
    assert structure(net(8, 1), x) != found
    assert structure(net(8), [torch.randn(1, 3, 9, 9)]) != found


def test_what_the_code_says_counts_and_the_mode_is_kept() -> None:
    x = [torch.randn(1, 4)]
    module = Scaled(2.0).train()
    assert structure(module, x) != structure(Scaled(3.0), x)
    assert structure(module, x) == structure(copy.deepcopy(module).eval(), x)
    assert module.training
