from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.models import rest
from compress.models.factory import Factory, build, factory_for
from compress.models.need import Need
from compress.models.settings import ModelSettings
from compress.pruning.depth import bypassed, drop_blocks, find_blocks
from tests.models.text_networks import inputs, made

IMAGES = (torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)),)
VIT = {
    "model_type": "vit", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "patch_size": 8,
}  # fmt: skip
RESNET = ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]
MOBILENET = [f"features.{number}" for number in (5, 7, 8, 10, 11, 12, 14, 15, 17, 18)]
"""Where strides are 1 and as many channels come out as go in."""
CASES: dict[str, list[str]] = {
    "resnet14 A": RESNET,
    "resnet14 B": RESNET,
    "mobilenet_v2": MOBILENET,
    "vgg8": [],
    "vit": [f"network.vit.encoder.layer.{number}" for number in range(3)],
    "bert": [f"network.bert.encoder.layer.{number}" for number in range(2)],
    "distilbert": [f"network.distilbert.transformer.layer.{number}" for number in range(2)],
    "llama": [f"network.model.layers.{number}" for number in range(2)],
    "gpt2": [f"network.transformer.h.{number}" for number in range(2)],
}
WITH_BLOCKS = [name for name, blocks in CASES.items() if blocks]


def network(name: str) -> tuple[Factory, nn.Module, tuple[Tensor, ...]]:
    """A small network, in evaluation mode with running statistics that are not the initial ones, and its inputs."""
    if name in ("bert", "distilbert", "llama", "gpt2"):
        task = "text-classification" if "bert" in name else "causal-lm"
        return *made(name, task), tuple(torch.from_numpy(array) for array in inputs(task, [7, 4]))
    if name == "vit":
        factory = factory_for(ModelSettings(transformers=VIT), Need(((3, 32, 32),), 5))
        return factory, build(factory, 1).eval(), IMAGES
    zoo, _, shortcut = name.partition(" ")
    more = {"shortcut": shortcut} if shortcut else {}
    factory = Factory("zoo", zoo, {"num_classes": 5, "in_channels": 3, "width": 0.5, **more})
    module = build(factory, 1)
    with torch.no_grad():
        module.train()(*IMAGES)
    return factory, module.eval(), IMAGES


def answer(module: nn.Module, given: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        found: Tensor = module(*given)
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_blocks_of_known_networks(name: str) -> None:
    _, module, given = network(name)
    before = answer(module, given)
    assert find_blocks(module, given) == CASES[name]
    assert torch.equal(answer(module, given), before)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


class Passing(nn.Module):
    """What it is given, and what it makes of that; with `scaled` its input does not come through."""

    def __init__(self, width: int, *, scaled: bool = False) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.gate = nn.Linear(width, width) if scaled else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return x + y if self.gate is None else x * torch.tanh(self.gate(x)) + y


def test_only_what_passes_its_input_on_is_a_block() -> None:
    module = nn.Sequential(
        nn.Linear(8, 8), nn.ReLU(), Passing(8), Passing(8, scaled=True), nn.Sequential(Passing(8), Passing(8)),
        nn.Linear(8, 8),
    ).train()  # fmt: skip
    assert find_blocks(module, [torch.randn(4, 8)]) == ["2", "4.0", "4.1"]  # 4 is made of such
    assert module.training


def test_what_the_network_counts_on_is_no_block() -> None:
    class Reading(nn.Module):
        """Reads an attribute of its first block, which an identity has not."""

        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(Passing(8), Passing(8))

        def forward(self, x: Tensor) -> Tensor:
            first: Any = self.blocks[0]
            return x if first.gate is not None else self.blocks(x)

    assert find_blocks(Reading().eval(), [torch.randn(2, 8)]) == ["blocks.1"]


class Numbered(nn.Module):
    """Runs a list of blocks by their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Passing(8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for number in range(len(self.blocks)):
            x = self.blocks[number](x)
        return x


class Pairs(nn.Module):
    """Runs the entries of two lists in pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Passing(8) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for block, norm in zip(self.blocks, self.norms, strict=False):
            x = norm(block(x))
        return x


class Other(Passing):
    """Another class."""


class Listed(nn.Module):
    """Runs a list of blocks."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def test_what_goes_in_pairs_with_others_is_no_block() -> None:
    """Without one of them those that follow would be given to others: the network would not be the bypassed one."""
    assert find_blocks(Pairs(), [torch.randn(2, 8)]) == []


def test_what_cannot_be_written_down_afterwards_is_no_block() -> None:
    """In a list the entries behind move up, onto the places of modules that another class makes."""
    mixed = Listed(Passing(8), Other(8), Passing(8))
    assert find_blocks(mixed, [torch.randn(2, 8)]) == ["blocks.2"]
    first, second = Passing(8), Passing(8)
    assert find_blocks(Listed(first, second, first, second), [torch.randn(2, 8)]) == []


def test_blocks_that_are_found_by_their_number_may_go() -> None:
    assert find_blocks(Numbered(), [torch.randn(2, 8)]) == ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_bypassed_is_the_network_without_them(name: str) -> None:
    _, module, given = network(name)
    whole = answer(module, given)
    for paths in (CASES[name][:1], CASES[name][1:3]):
        dropped = copy.deepcopy(module)
        drop_blocks(dropped, paths)
        with bypassed(module, paths):
            silent = answer(module, given)
        expected = answer(dropped, given)
        assert not torch.equal(expected, whole)
        assert torch.equal(silent, expected)
        assert torch.equal(answer(module, given), whole)


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_at_rest_and_back_it_is_bit_equal(name: str, tmp_path: Path) -> None:
    factory, module, given = network(name)
    drop_blocks(module, CASES[name][:1])
    rest.save(module, factory, tmp_path)
    back = rest.load(tmp_path)
    assert rest.state_digest(back) == rest.state_digest(module)
    assert torch.equal(answer(back, given), answer(module, given))


def test_weights_of_bypassed_blocks_do_not_matter() -> None:
    _, module, given = network("resnet14 B")
    with bypassed(module, RESNET):
        before = answer(module, given)
        with torch.no_grad():
            for path in RESNET:
                for parameter in module.get_submodule(path).parameters():
                    parameter.fill_(torch.nan)
        assert torch.equal(answer(module, given), before)


def test_bypassing_leaves_the_network_as_it_was_also_after_an_error() -> None:
    for name in ("resnet14 A", "llama"):
        _, module, given = network(name)
        names, before = [path for path, _ in module.named_modules()], answer(module, given)
        with pytest.raises(ZeroDivisionError), bypassed(module, CASES[name][:2]):
            raise ZeroDivisionError
        assert [path for path, _ in module.named_modules()] == names
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
        assert torch.equal(answer(module, given), before)


def test_layers_that_stay_are_numbered_anew() -> None:
    _, module, _ = network("llama")
    stays: Any = module.get_submodule("network.model.layers.1")
    assert stays.self_attn.layer_idx == 1
    drop_blocks(module, ["network.model.layers.0"])
    assert stays.self_attn.layer_idx == 0
    assert module.get_submodule("network.model.layers.0") is stays
    layers: Any = module.get_submodule("network.model.layers")
    assert len(layers) == 1
