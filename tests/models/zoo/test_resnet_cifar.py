from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.models.count import count_macs, count_parameters
from compress.models.weights import load_weights
from compress.models.zoo.shortcut import PadShortcut
from compress.models.zoo.table import build_zoo


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_parameters_are_those_of_he_2015_table_6(depth: int, millions: float) -> None:
    count = count_parameters(build_zoo(f"resnet{depth}", num_classes=10, in_channels=3)) / 1e6
    assert count == pytest.approx(millions, abs=0.05 if depth == 110 else 0.01)


@pytest.mark.parametrize(
    ("name", "count"), [("resnet20", 278_324), ("resnet8x4", 1_233_540), ("resnet32x4", 7_433_860)]
)
def test_parameters_are_those_of_the_distillation_literature(name: str, count: int) -> None:
    """Counts of the authors' code for CIFAR-100, which has shortcuts with parameters."""
    assert count_parameters(build_zoo(name, num_classes=100, in_channels=3, shortcut="B")) == count


def test_macs_of_resnet20_are_the_published_41_million() -> None:
    network = build_zoo("resnet20", num_classes=10, in_channels=3)
    assert count_macs(network, (torch.zeros(1, 3, 32, 32),)) / 1e6 == pytest.approx(40.55, abs=0.1)


def test_width_scales_parameters_with_its_square() -> None:
    narrow, wide = (count_parameters(build_zoo("resnet14", num_classes=10, in_channels=1, width=w)) for w in (1, 4))
    assert wide == pytest.approx(16 * narrow, rel=0.02)
    assert wide == pytest.approx(2.73e6, rel=0.01)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_digits_go_through(shortcut: str) -> None:
    network = build_zoo("resnet14", num_classes=10, in_channels=1, width=0.25, shortcut=shortcut).eval()
    sizes = []
    for stage in (network.layer1, network.layer2, network.layer3):
        assert isinstance(stage, torch.nn.Module)
        stage.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert sizes == [8, 4, 2]
    has_parameters = any("shortcut" in name for name, _ in network.named_parameters())
    assert has_parameters == (shortcut == "B")
    assert any(isinstance(part, PadShortcut) for part in network.modules()) == (shortcut == "A")


def _data_folder() -> Path:
    if "COMPRESS_DATA" not in os.environ:
        pytest.skip("COMPRESS_DATA, the folder with trained networks and CIFAR-10, is not set")
    return Path(os.environ["COMPRESS_DATA"])


@pytest.mark.parametrize(("name", "file"), [("resnet20", "resnet20-12fca82f.th"), ("resnet56", "resnet56-4bfd9763.th")])
def test_published_weights_fill_the_network_completely(name: str, file: str) -> None:
    path = _data_folder() / "models" / "resnet_cifar10" / file
    network = build_zoo(name, num_classes=10, in_channels=3, shortcut="A")
    load_weights(network, path)
    stored = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    filled = {f"module.{key}": value for key, value in network.state_dict().items()}
    counters = {key: filled.pop(key) for key in list(filled) if key.endswith("num_batches_tracked")}
    assert filled.keys() == stored.keys()
    assert all(torch.equal(value, stored[key]) for key, value in filled.items())
    assert all(counter == 0 for counter in counters.values())  # the files are older than these counters


def test_trained_resnet20_is_right_as_often_as_published() -> None:
    """91.73 % on all 10,000 test images; the first 500 lie within three standard deviations of that."""
    import io

    from PIL import Image
    from pyarrow import parquet

    folder = _data_folder()
    table = parquet.read_table(folder / "cifar10" / "test.parquet").slice(0, 500)
    pictures = [np.asarray(Image.open(io.BytesIO(item["bytes"]))) for item in table["img"].to_pylist()]
    images = np.stack(pictures).astype(np.float32) / 255
    images = (images - np.array([0.485, 0.456, 0.406], np.float32)) / np.array([0.229, 0.224, 0.225], np.float32)
    network = build_zoo("resnet20", num_classes=10, in_channels=3)
    load_weights(network, folder / "models" / "resnet_cifar10" / "resnet20-12fca82f.th")
    with torch.inference_mode():
        answers = network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).argmax(1).numpy()
    share = (answers == np.array(table["label"].to_pylist())).mean()
    assert share == pytest.approx(0.9173, abs=3 * (0.9173 * 0.0827 / 500) ** 0.5)
