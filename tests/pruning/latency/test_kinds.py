"""What layers are said to have left is what those of a network have that was really cut."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.models.count import count_macs
from compress.pruning.cost import Costs
from compress.pruning.latency.kinds import Layer, LayerKind, layers_of
from compress.pruning.prunable import prunable_groups
from compress.pruning.shape import Channels
from compress.pruning.surgery import cut
from tests.models.text_networks import inputs, made
from tests.pruning.conftest import Attention


class Operators(nn.Module):
    """One layer of every operator that convolutions have."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.dilated = nn.Conv2d(8, 8, 3, padding="same", dilation=2)
        self.bare = nn.Conv2d(8, 16, (3, 1), padding="valid")
        self.grouped = nn.Conv2d(16, 32, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2, groups=2)
        self.depthwise = nn.Conv2d(16, 16, 5, stride=(2, 1), padding=2, groups=16)
        self.rows, self.head = nn.Linear(16, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.grouped(torch.relu(self.bare(torch.relu(self.dilated(torch.relu(self.strided(x)))))))
        x = self.depthwise(torch.relu(self.up(torch.relu(x))))
        return self.head(torch.relu(self.rows(x.flatten(2).transpose(1, 2))).mean(1))


def _found(module: nn.Module, example: Tensor) -> tuple[list[Any], dict[str, Layer]]:
    groups, _ = prunable_groups(module, [example])
    return groups, {layer.name: layer for layer in layers_of(module, Costs(module, groups, [example]), [example])}


def _left(part: Any) -> tuple[int, int]:
    """The channels that a layer of a network counts."""
    if isinstance(part, nn.Linear):
        return part.in_features, part.out_features
    if hasattr(part, "attention_head_size"):
        return (part.num_attention_heads * part.attention_head_size,) * 2
    return part.in_channels, part.out_channels


@pytest.mark.parametrize(
    "name", ["encoder_decoder", "group_norm", "tied", "transformer", "resnet_a", "resnet_b", "mobilenet", "operators"]
)
def test_channels_are_those_of_the_cut_network(name: str, network: Callable[[str], nn.Module], example: Tensor) -> None:
    module = Operators().eval() if name == "operators" else network(name)
    groups, layers = _found(module, example)
    assert {layer for layer in layers if isinstance(module.get_submodule(layer), nn.Linear | nn.Conv2d)} == {
        path for path, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
    }
    for seed in range(3):
        draw = random.Random(seed)
        step = {group.name: 4 if name == "group_norm" and group.unit_size == 1 else 1 for group in groups}
        removed = {
            group.name: draw.sample(
                range(group.units), step[group.name] * draw.randrange(group.units // step[group.name])
            )
            for group in groups
        }
        kept = {group.name: group.units - len(removed[group.name]) for group in groups}
        pruned = copy.deepcopy(module)
        cut(pruned, groups, removed)
        for path, layer in layers.items():
            assert (layer.inputs.left(kept), layer.outputs.left(kept)) == _left(pruned.get_submodule(path)), path


def test_every_kind_of_layer(example: Tensor) -> None:
    _, layers = _found(Operators().eval(), example)
    square = LayerKind("conv", (8, 8), (3, 3), (1, 1), (1, 1), (1, 1))
    assert {name: layer.kind for name, layer in layers.items()} == {
        "strided": replace(square, size=(16, 16), stride=(2, 2)),
        "dilated": replace(square, padding=(2, 2), dilation=(2, 2)),
        "bare": replace(square, kernel=(3, 1), padding=(0, 0)),
        "grouped": replace(square, size=(6, 8), groups=2),
        "up": LayerKind("conv_transpose", (6, 8), (2, 2), (2, 2), (0, 0), (1, 1), groups=2),
        "depthwise": LayerKind("depthwise", (12, 16), (5, 5), (2, 1), (2, 2), (1, 1)),
        "rows": LayerKind("linear", (6 * 16,)),
        "head": LayerKind("linear", (1,)),
    }
    assert [name for name, layer in layers.items() if layer.joint] == ["depthwise"]
    assert list(layers) == ["strided", "dilated", "bare", "grouped", "up", "depthwise", "rows", "head"]


class Windowed(nn.Module):
    """Attention within each of four windows, as Swin has it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention, self.head = nn.Conv2d(3, 16, 4, stride=4), Attention(16, 2), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 4, 5, 1).reshape(-1, 4, 16)
        y = self.attention(y).reshape(len(x), -1, 16).mean(1)
        return self.head(y)  # type: ignore[no-any-return]


def test_attention_in_windows_is_within_each(example: Tensor) -> None:
    _, layers = _found(Windowed().eval(), example)
    assert layers["attention"].kind == LayerKind("attention", (4, 4), head=8)


class Computed(nn.Module):
    """A convolution whose weight is another tensor in each call, beside plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.middle = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.middle(torch.relu(self.first(x))).relu()).relu()
        return self.head(y.mean((2, 3)))  # type: ignore[no-any-return]


def test_layers_whose_weights_are_computed_are_left_out(example: Tensor) -> None:
    module = Computed().eval()
    _, layers = _found(module, example)
    assert set(layers) == {"first", "last", "head"}
    groups, _ = prunable_groups(module, [example])
    assert Costs(module, groups, [example]).macs({}) == count_macs(module, (example[:1],))


def test_attention_is_a_layer_of_its_own(network: Callable[[str], nn.Module], example: Tensor) -> None:
    _, layers = _found(network("transformer"), example)
    attention = {name: layer for name, layer in layers.items() if layer.kind.operator == "attention"}
    assert list(attention) == ["attention.0", "attention.1"]
    assert {layer.kind for layer in attention.values()} == {LayerKind("attention", (1, 17), head=8)}  # a class token
    assert all(layer.joint and layer.groups == {f"{name}.query"} for name, layer in attention.items())
    assert layers["up.0"].kind == layers["attention.1.key"].kind == LayerKind("linear", (17,))


@pytest.mark.parametrize(
    ("name", "attention", "more"),
    [
        ("gpt2", "network.transformer.h.0.attn", {"n_embd": 32, "n_head": 4}),  # queries, keys and values in one layer
        ("llama", "network.model.layers.0.self_attn", {"num_attention_heads": 4, "hidden_size": 32}),  # shared keys
    ],
)
def test_attention_has_the_channels_of_its_queries(name: str, attention: str, more: dict[str, Any]) -> None:
    _, module = made(name, "causal-lm", **{"num_key_value_heads": 2, **more} if name == "llama" else more)
    arrays = [torch.from_numpy(array) for array in inputs("causal-lm", [7, 5])]
    groups, _ = prunable_groups(module, arrays)
    layer = next(x for x in layers_of(module, Costs(module, groups, arrays), arrays) if x.name == attention)
    assert layer.kind == LayerKind("attention", (1, 7), head=8)
    assert layer.outputs.left({group.name: group.units for group in groups}) == 32
    assert layer.outputs.left({group.name: group.units // 2 for group in groups}) == 16


def test_layers_that_are_alike_are_of_one_kind(network: Callable[[str], nn.Module], example: Tensor) -> None:
    _, layers = _found(network("resnet_a"), example)
    assert layers["layer1.0.conv1"].kind == layers["layer1.1.conv2"].kind != layers["layer2.0.conv1"].kind
    assert len({layer.kind for layer in layers.values()}) == 6  # of 14


def test_the_network_is_left_as_it_was(network: Callable[[str], nn.Module], example: Tensor) -> None:
    module = network("tied")
    groups, _ = prunable_groups(module, [example])
    costs = Costs(module, groups, [example])
    layers_of(module.train(), costs, [example])
    assert module.training
    assert not any(part._forward_hooks for part in module.modules())


def test_a_kind_survives_json() -> None:
    for kind in (LayerKind("conv", (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), 4), LayerKind("attention", (1, 17), head=8)):
        assert LayerKind.from_plain(json.loads(json.dumps(kind.plain()))) == kind


def test_fixed_channels_stay() -> None:
    channels = Channels(3, (("a", 2.0), ("b", 1.0)))
    assert channels.left({"a": 5, "b": 7}) == 3 + 10 + 7
