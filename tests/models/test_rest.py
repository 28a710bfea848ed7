from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning
from torch import Tensor, nn

from compress.errors import UsageError
from compress.models import rest
from compress.models.factory import Factory, build
from compress.models.need import Need
from compress.models.transformers_vision import configuration

ENCODER_DECODER = """
import torch
from blocks import Block
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down1, self.down2 = Block(1, width), Block(width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge = Block(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)
        self.register_buffer("grid", torch.rand(4), persistent=False)

    def forward(self, x):
        first = self.down1(x)
        y = self.up(self.down2(self.pool(first)))
        return self.head(self.merge(torch.cat([first, y], 1))) + self.grid.sum()


def make(width=8):
    return Net(width)
"""

BLOCKS = """
from torch import nn


class Block(nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
"""


def _randomised(module: nn.Module) -> nn.Module:
    """Every parameter and float buffer filled anew, so that nothing can be right by chance."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.1)
    return module


def _zoo(name: str, **arguments: Any) -> Factory:
    return Factory("zoo", name, {"num_classes": 4, "in_channels": 1, "width": 0.5, **arguments})


def _vit() -> Factory:
    given = {
        "model_type": "vit",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 4,
    }
    return Factory("transformers", "vit", {"config": configuration(given, {}, Need(((1, 16, 16),), 4), new_head=False)})


def _own(folder: Path) -> Factory:
    (folder / "net.py").write_text(ENCODER_DECODER)
    (folder / "blocks.py").write_text(BLOCKS)
    return Factory("python", f"{folder / 'net.py'}:make", {"width": 8})


def _prune(module: nn.Module, example: Tensor, output: nn.Module, **options: Any) -> None:
    before = sum(parameter.numel() for parameter in module.parameters())
    torch_pruning.pruner.MagnitudePruner(
        module,
        example,
        importance=torch_pruning.importance.MagnitudeImportance(),
        pruning_ratio=0.5,
        ignored_layers=[output],
        **options,
    ).step()
    assert sum(parameter.numel() for parameter in module.parameters()) < 0.6 * before


@pytest.mark.parametrize(
    ("name", "arguments", "output"),
    [
        ("resnet8", {"shortcut": "B"}, "linear"),
        ("resnet8x4", {"width": 0.25, "shortcut": "B"}, "linear"),
        ("wrn_16_2", {}, "linear"),
        ("vgg8", {"width": 0.125}, "classifier"),
        ("mobilenet_v2", {}, "classifier"),
    ],
)
def test_pruned_zoo_networks_come_back_bit_equal(
    name: str, arguments: dict[str, Any], output: str, tmp_path: Path
) -> None:
    factory = _zoo(name, **arguments)
    module = build(factory)
    example = torch.randn(2, 1, 16, 16)
    _prune(module, example, module.get_submodule(output))
    _check_round_trip(_randomised(module), factory, (example,), tmp_path)


def test_a_pruned_transformers_network_comes_back_bit_equal(tmp_path: Path) -> None:
    factory = _vit()
    module = build(factory)
    example = torch.randn(2, 1, 16, 16)
    heads = {
        layer: 2
        for part in module.modules()
        for name, layer in part.named_children()
        if name in ("query", "key", "value")
    }
    _prune(module, example, module.get_submodule("network.classifier"), num_heads=heads)
    for part in module.modules():  # torch-pruning leaves the sizes that transformers keeps to the caller
        if hasattr(part, "attention_head_size"):
            part.all_head_size = part.query.out_features  # type: ignore[union-attr]
            part.attention_head_size = part.all_head_size // part.num_attention_heads  # type: ignore[operator]
    _check_round_trip(_randomised(module), factory, (example,), tmp_path)


def test_a_users_pruned_encoder_decoder_comes_back_bit_equal(tmp_path: Path) -> None:
    user = tmp_path / "user"
    user.mkdir()
    factory = _own(user)
    module = build(factory)
    example = torch.randn(2, 1, 8, 8)
    _prune(module, example, module.get_submodule("head"))
    _check_round_trip(_randomised(module), factory, (example,), tmp_path / "rest")
    _check_in_a_process_without_torch_pruning(tmp_path / "rest", example)


def test_option_a_shortcuts_that_lost_channels_come_back_bit_equal(tmp_path: Path) -> None:
    """By hand: the second stage of a ResNet loses channels, both in a row and here and there."""
    factory = _zoo("resnet8", width=1.0)
    for number, gone in enumerate(([0, 1, 31], [3, 9, 17])):
        module = build(factory)
        kept = [channel for channel in range(32) if channel not in gone]
        block = module.get_submodule("layer2.0")
        _cut(block.get_submodule("conv2"), 0, kept)
        _cut(block.get_submodule("bn2"), 0, kept)
        block.shortcut.drop_outputs(gone)  # type: ignore[union-attr, operator]
        _cut(module.get_submodule("layer3.0.conv1"), 1, kept)
        module.get_submodule("layer3.0").shortcut.drop_inputs(gone)  # type: ignore[union-attr, operator]
        _check_round_trip(_randomised(module), factory, (torch.randn(2, 1, 8, 8),), tmp_path / str(number))


def _cut(layer: nn.Module, dim: int, kept: list[int]) -> None:
    for name, parameter in list(layer.named_parameters()):
        setattr(
            layer,
            name,
            nn.Parameter(parameter.detach().index_select(min(dim, parameter.dim() - 1), torch.tensor(kept))),
        )
    if isinstance(layer, nn.BatchNorm2d):
        layer.num_features = len(kept)
        layer.running_mean, layer.running_var = torch.zeros(len(kept)), torch.ones(len(kept))
    elif isinstance(layer, nn.Conv2d):
        setattr(layer, ("out_channels", "in_channels")[dim], len(kept))


def _check_round_trip(module: nn.Module, factory: Factory, inputs: tuple[Tensor, ...], folder: Path) -> None:
    """The same bits when read back, and the same files when written once more; no path in any of them."""
    rest.save(module, factory, folder, {"note": [1, "two"]})
    back = rest.load(folder)
    with torch.no_grad():
        expected = module.eval()(*inputs)
        assert torch.equal(back(*inputs), expected)
    assert rest.state_digest(back) == rest.state_digest(module)
    assert rest.read_extra(folder) == {"note": [1, "two"]}
    second = folder.with_name(f"{folder.name}-second")
    rest.save(back, rest.read_factory(folder), second, {"note": [1, "two"]})
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {path.relative_to(second): path.read_bytes() for path in second.rglob("*") if path.is_file()}
    assert str(folder.parent).encode() not in b"".join(files.values())


def _check_in_a_process_without_torch_pruning(folder: Path, x: Tensor) -> None:
    expected = rest.load(folder)(x).detach()
    np.save(folder.with_name("input.npy"), x.numpy())
    code = (
        "import sys; sys.modules['torch_pruning'] = None\n"
        "import numpy, torch; from pathlib import Path; from compress.models.rest import load\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        f"x = torch.from_numpy(numpy.load({str(folder.with_name('input.npy'))!r}))\n"
        f"numpy.save({str(folder.with_name('output.npy'))!r}, load(Path({str(folder)!r}))(x).detach().numpy())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
    assert np.array_equal(np.load(folder.with_name("output.npy")), expected.numpy())


def test_a_users_network_is_read_after_its_own_folder_is_gone(tmp_path: Path) -> None:
    user = tmp_path / "user"
    user.mkdir()
    factory = _own(user)
    module = build(factory)
    rest.save(module, factory, tmp_path / "rest")
    assert {path.name for path in (tmp_path / "rest" / "code").iterdir()} == {"net.py", "blocks.py"}
    (user / "net.py").unlink()
    (user / "blocks.py").unlink()
    code = f"from pathlib import Path; from compress.models.rest import load; load(Path({str(tmp_path / 'rest')!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_no_pickle_is_written(tmp_path: Path) -> None:
    factory = _zoo("resnet8")
    rest.save(build(factory), factory, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "weights.safetensors"]
    assert json.loads((tmp_path / "model.json").read_text())["edits"] == []


class _Tied(nn.Module):
    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.layer = nn.LSTM(3, 3)
        self.again = self.layer
        self.frozen = nn.Parameter(torch.rand(2).half(), requires_grad=False)
        self.none: nn.Module | None = nn.ReLU()
        if tied:
            self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(self.again(self.layer(x)[0])[0])) + self.frozen.float().sum()
        return y if self.none is None else self.none(y)


def _tied(tied: bool = True) -> _Tied:
    return _Tied(tied)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_shared_parameters_stay_shared_and_others_do_not(
    before: bool, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.models.factory.load_function", lambda *_: _tied)
    monkeypatch.setattr("compress.models.rest.write_code", lambda factory, _: factory)
    factory = Factory("python", "somewhere:make", {"tied": before})
    module = build(factory, 3)
    assert isinstance(module, _Tied)
    module.second.weight = module.first.weight if after else nn.Parameter(torch.rand(3, 3))
    module.none = None
    rest.save(module, factory, tmp_path)
    back = rest.load(tmp_path)
    assert isinstance(back, _Tied)
    assert (back.first.weight is back.second.weight) == after
    assert back.layer is back.again
    assert back.frozen.dtype == torch.float16
    assert not back.frozen.requires_grad
    x = torch.randn(2, 1, 3)
    assert torch.equal(back(x), module(x))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "weights.safetensors").write_bytes(b"x"), "safetensors"),
        (lambda folder: _flip_a_bit(folder / "weights.safetensors"), "not those that were written"),
        (lambda folder: (folder / "model.json").unlink(), "holds no network"),
        (lambda folder: (folder / "weights.safetensors").unlink(), "no such file of weights"),
    ],
)
def test_spoiled_files_are_refused(spoil: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    factory = _zoo("resnet8")
    rest.save(build(factory), factory, tmp_path)
    spoil(tmp_path)
    with pytest.raises(UsageError, match=says):
        rest.load(tmp_path)


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_changed_code_is_refused(tmp_path: Path) -> None:
    factory = _own(tmp_path)
    rest.save(build(factory), factory, tmp_path / "rest")
    code = tmp_path / "rest" / "code" / "net.py"
    code.write_text(code.read_text().replace("def make(width=8):", "def make(width=8):\n    width = 6"))
    with pytest.raises(UsageError, match="in the network that its code makes"):
        rest.load(tmp_path / "rest")
