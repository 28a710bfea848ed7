from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import pytorch_utils

from compress.pruning.layers import Axis, SelfPruning, drop, has_two_axes, is_norm, layout

KEPT = [0, 3, 1, 6]


class _Scale(nn.Module):
    """A factor for each channel, as somebody may write it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.randn(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


CASES: list[tuple[nn.Module, Axis, tuple[int, ...], dict[str, Any]]] = [
    (nn.Conv2d(3, 8, 3), "out", (0,), {"out_channels": 4}),
    (nn.Conv2d(8, 5, 3), "in", (1,), {"in_channels": 4}),
    (nn.ConvTranspose2d(3, 8, 3), "out", (1,), {"out_channels": 4}),
    (nn.ConvTranspose2d(8, 5, 3), "in", (0,), {"in_channels": 4}),
    (nn.Conv1d(8, 8, 3, groups=8), "out", (0,), {"in_channels": 4, "out_channels": 4, "groups": 4}),
    (nn.Linear(3, 8), "out", (0,), {"out_features": 4}),
    (nn.Linear(8, 3), "in", (1,), {"in_features": 4}),
    (nn.Embedding(5, 8), "out", (1,), {"embedding_dim": 4}),
    (nn.PReLU(8), "out", (0,), {"num_parameters": 4}),
    (nn.GroupNorm(8, 8), "out", (0,), {"num_channels": 4, "num_groups": 4}),
    (nn.InstanceNorm2d(8, affine=True), "out", (0,), {"num_features": 4}),
    (nn.BatchNorm2d(8), "out", (0,), {"num_features": 4}),
    (nn.RMSNorm(8), "out", (0,), {"normalized_shape": (4,)}),
    (_Scale(8), "out", (0,), {"dim": 4}),
    (pytorch_utils.Conv1D(8, 3), "out", (1,), {"nf": 4, "nx": 3}),
    (pytorch_utils.Conv1D(3, 8), "in", (0,), {"nf": 3, "nx": 4}),
]


@pytest.mark.parametrize(("layer", "axis", "dims", "attributes"), CASES)
def test_layer_keeps_the_channels_in_the_order_given(
    layer: nn.Module, axis: Axis, dims: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    before = copy.deepcopy(layer)
    drop(layer, axis, KEPT)
    weight, old = layer.weight, before.weight
    assert isinstance(weight, nn.Parameter)
    assert isinstance(old, Tensor)
    assert torch.equal(weight, old.index_select(dims[0], torch.tensor(KEPT)))
    assert {name: getattr(layer, name) for name in attributes} == attributes
    bias = getattr(before, "bias", None)
    if bias is not None:
        assert torch.equal(layer.bias, bias[KEPT] if axis == "out" else bias)  # type: ignore[arg-type]


def test_batch_norm_keeps_running_statistics_as_buffers() -> None:
    layer = nn.BatchNorm1d(8)
    layer.running_mean = torch.arange(8.0)
    drop(layer, "out", KEPT)
    assert layer.running_mean is not None
    assert layer.running_mean.tolist() == KEPT
    assert dict(layer.named_buffers()).keys() == {"running_mean", "running_var", "num_batches_tracked"}


def test_layer_norm_shape() -> None:
    layer = nn.LayerNorm(8)
    drop(layer, "out", KEPT)
    assert layer.normalized_shape == (4,)
    assert layer(torch.randn(2, 4)).shape == (2, 4)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("axis", ["in", "out"])
def test_grouped_convolution_is_the_same_as_its_groups_apart(axis: Axis, transposed: bool) -> None:
    make = nn.ConvTranspose2d if transposed else nn.Conv2d
    whole = make(8, 12, 1, groups=2)
    x = torch.randn(1, 8, 3, 3)
    kept = [0, 2, 4, 6] if axis == "in" else [1, 2, 5, 7, 8, 11]
    pruned = copy.deepcopy(whole)
    drop(pruned, axis, kept)
    with torch.no_grad():
        if axis == "out":
            expected, found = whole(x)[:, kept], pruned(x)
        else:
            silent = x.clone()
            silent[:, [1, 3, 5, 7]] = 0
            expected, found = whole(silent), pruned(x[:, kept])
    assert torch.allclose(found, expected, atol=1e-6)


def test_groups_may_not_become_unequal() -> None:
    with pytest.raises(ValueError, match="unequal"):
        drop(nn.Conv2d(8, 8, 1, groups=2), "out", [0, 1, 2, 4])


def test_unknown_layers_have_no_layout() -> None:
    assert layout(nn.LSTM(4, 4), "out") is None
    assert layout(nn.BatchNorm2d(4), "in") is None
    with pytest.raises(ValueError, match="LSTM"):
        drop(nn.LSTM(4, 4), "out", [0])


def test_only_modules_with_both_functions_prune_themselves() -> None:
    from compress.models.zoo.shortcut import PadShortcut

    assert isinstance(PadShortcut(4, 8, 2), SelfPruning)
    assert not isinstance(nn.Conv2d(4, 8, 1), SelfPruning)


def test_frozen_parameters_stay_frozen() -> None:
    layer = nn.Linear(3, 8).requires_grad_(False)
    drop(layer, "out", KEPT)
    assert not layer.weight.requires_grad


def test_kinds_of_layers() -> None:
    assert has_two_axes(nn.Conv2d(4, 8, 1)) and has_two_axes(nn.Linear(4, 8))
    assert not has_two_axes(nn.Conv2d(8, 8, 1, groups=8)) and not has_two_axes(nn.Embedding(4, 8))
    assert is_norm(nn.LayerNorm(8)) and is_norm(nn.RMSNorm(8)) and is_norm(_Scale(8))
    assert not is_norm(nn.BatchNorm2d(8)) and not is_norm(nn.PReLU(8)) and not is_norm(nn.Linear(8, 8))
