from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.quantization.aten import read
from compress.quantization.trace import trace


class Many(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self.conv(x), inplace=True)
        y = y + functional.pad(x[:, :, ::1, ::1], (0, 0, 0, 0, 1, 1))
        y = torch.cat([y * 2.0, functional.max_pool2d(y, 1)], 1)
        return functional.adaptive_avg_pool2d(functional.silu(y).clamp(-1, 2), 1)


def test_operators_are_read_with_what_their_arguments_mean() -> None:
    graph = trace(Many(), (torch.randn(2, 2, 4, 4),)).graph
    found = [(operator.kind, operator.bounds) for operator in read(graph) if operator.kind != "slice"]
    assert found == [
        ("conv", None),
        ("clip", (0.0, 6.0)),
        ("pad", None),
        ("add", None),
        ("other", None),  # a product with a number
        ("max_pool", None),
        ("concat", None),
        ("other", None),
        ("clip", (-1.0, 2.0)),
        ("global_average_pool", None),
    ]


def test_globs_name_modules() -> None:
    graph = trace(Many(), (torch.randn(2, 2, 4, 4),)).graph
    assert [operator.ignored for operator in read(graph, ("conv",)) if operator.kind == "conv"] == [True]
