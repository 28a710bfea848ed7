from __future__ import annotations

import pytest
import torch
from torch import nn

from compress.errors import UsageError
from compress.models.count import count_macs, count_parameters, size_bytes
from compress.models.need import Need
from compress.models.transformers_vision import build, configuration


def test_resnet18_has_the_published_parameters_and_macs() -> None:
    """He et al. 2015, table 1, in torchvision's count: 11,689,512 parameters and 1.814 GMACs at 224x224."""
    given = {
        "model_type": "resnet",
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
        "layer_type": "basic",
    }
    network = build(configuration(given, {}, Need(((3, 224, 224),), 1000), new_head=False)).to("meta")
    assert count_parameters(network) == 11_689_512
    assert count_macs(network, (torch.zeros(2, 3, 224, 224),)) == 1_814_073_344


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Linear(5, 7), (5,), 35),
        (nn.Conv2d(4, 6, 3, padding=1), (4, 8, 8), 4 * 6 * 9 * 64),
        (nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (4, 8, 8), 4 * 9 * 64),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), (4, 8, 8), 4 * 6 * 9 * 16),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 8, 8), 4 * 6 * 4 * 64),
        (nn.LSTM(8, 16, batch_first=True), (5, 8), 5 * 4 * 16 * (8 + 16)),
        (nn.GRU(8, 16, batch_first=True), (5, 8), 5 * 3 * 16 * (8 + 16)),
        (nn.BatchNorm2d(4), (4, 8, 8), 0),
    ],
)
def test_layers_count_as_on_paper(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    assert count_macs(layer, (torch.zeros(3, *shape),)) == macs


def test_attention_counts_its_products() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert count_macs(Attention(), (torch.zeros(1, 2, 5, 8),)) == 2 * 2 * 5 * 5 * 8


def test_counting_changes_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout())
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count_macs(network, (torch.randn(4, 1, 5, 5),))
    assert [part.training for part in network] == [True, False, True]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(4, 4)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer)) == 20
    assert size_bytes(nn.Sequential(layer, nn.ReLU(), layer)) == 80


def test_wrong_inputs_are_the_users_fault() -> None:
    with pytest.raises(UsageError, match=r"inputs of shape \(1, 3\)"):
        count_macs(nn.Linear(4, 4), (torch.zeros(2, 3),))
