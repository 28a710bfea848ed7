from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compress.pruning.reading import add_to, has_constant, matrix_of, numbers_of, rows_of

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 4), (5, 6)),
    "tokens": (nn.Linear(6, 4, bias=False), (2, 3, 6)),
    "convolution": (nn.Conv2d(6, 4, 3, padding=1), (2, 6, 7, 5)),
    "one dimension": (nn.Conv1d(6, 4, 4, stride=3, padding="valid"), (2, 6, 13)),
    "padding by a word": (nn.Conv1d(6, 4, 4, padding="same"), (2, 6, 9)),
    "three dimensions": (nn.Conv3d(6, 4, (1, 2, 3), dilation=(1, 2, 1)), (2, 6, 3, 5, 4)),
    "stride and dilation": (nn.Conv2d(6, 4, (3, 2), (2, 1), (2, 1), (2, 3)), (2, 6, 9, 8)),
    "circular": (nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"), (2, 6, 4, 5)),
    "grouped": (nn.Conv2d(6, 4, 3, padding=1, groups=2, bias=False), (2, 6, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("wanted", [5, 10**6])
def test_rows_times_the_matrix_are_the_outputs_at_these_places(name: str, wanted: int) -> None:
    layer, size = LAYERS[name]
    x = torch.randn(size)
    with torch.no_grad():
        outputs = layer(x)
        flat = outputs.reshape(-1, 4) if isinstance(layer, nn.Linear) else outputs.movedim(1, -1).reshape(-1, 4)
        groups, channels, each = numbers_of(layer, "in")
        rows = rows_of(layer, x, wanted, torch.Generator().manual_seed(1)).reshape(-1, groups, channels * each)
        found = torch.einsum("pgi,goi->pgo", rows, matrix_of(layer)).reshape(len(rows), 4)
        bias: Any = layer.bias if has_constant(layer) else torch.zeros(4)
    places = torch.randperm(len(flat), generator=torch.Generator().manual_seed(1))[:wanted]
    assert len(rows) == min(wanted, len(flat))
    torch.testing.assert_close(found + bias, flat[places], rtol=1e-4, atol=1e-5)


def test_a_transposed_convolution_reads_channels_at_places_of_its_input() -> None:
    layer, x = nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2, bias=False), torch.randn(2, 6, 3, 4)
    assert numbers_of(layer, "in") == (2, 3, 1) and not has_constant(nn.ConvTranspose2d(6, 4, 2))
    rows = rows_of(layer, x, 10**6, torch.Generator().manual_seed(1)).reshape(-1, 2, 3)
    parts = torch.einsum("pgi,goi->pgo", rows, matrix_of(layer)).reshape(-1, 4, 2, 2)  # windows do not overlap
    with torch.no_grad():
        expected = layer(x)
    windows = expected.unfold(2, 2, 2).unfold(3, 2, 2).movedim(1, 3).reshape(-1, 4, 2, 2)
    places = torch.randperm(len(windows), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(parts, windows[places], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(6, 4, 3, groups=2), nn.ConvTranspose2d(6, 4, 3)])
def test_a_change_is_added_where_the_matrix_has_it(layer: nn.Module) -> None:
    before = matrix_of(layer).clone()
    change = torch.randn_like(before)
    with torch.no_grad():
        add_to(layer, change)
    torch.testing.assert_close(matrix_of(layer), before + change)


def test_the_transposed_linear_layer_of_transformers() -> None:
    from transformers.pytorch_utils import Conv1D

    layer, x = Conv1D(4, 6), torch.randn(2, 3, 6)
    assert numbers_of(layer, "in") == (1, 6, 1)
    rows = rows_of(layer, x, 10**6, torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = layer(x).reshape(-1, 4)[torch.randperm(6, generator=torch.Generator().manual_seed(1))]
        torch.testing.assert_close(rows @ matrix_of(layer)[0].T + layer.bias, expected, rtol=1e-4, atol=1e-5)
        add_to(layer, torch.ones(1, 4, 6))
    assert layer.weight.shape == (6, 4)
