"""Channels of every attention head go, and scores keep their scale."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.models.transformers_sizes import SIZES, configured, resized
from compress.pruning.groups import Group
from compress.pruning.prunable import prunable_groups
from compress.pruning.prune import prune_module
from compress.pruning.settings import Pruning
from compress.pruning.surgery import cut, removed_channels
from tests.models.text_networks import inputs, made

Make = Callable[[str], nn.Module]
TEXT = ["bert", "distilbert", "roberta", "gpt2"]


def opened(name: str) -> tuple[Any, nn.Module, list[Tensor]]:
    sizes = {"n_embd": 32, "n_head": 4} if name == "gpt2" else {"hidden_size": 32, "num_attention_heads": 4}
    sizes = {"dim": 32, "n_heads": 4} if name == "distilbert" else sizes
    task = "causal-lm" if name in ("gpt2", "llama") else "text-classification"
    factory, module = made(name, task, **sizes)
    return factory, module, [torch.from_numpy(array) for array in inputs(task, [7, 4])]


def narrowing(groups: list[Group]) -> list[Group]:
    return [group for group in groups if group.heads]


@pytest.mark.parametrize("name", TEXT)
def test_channels_that_every_head_lacks_prune_to_equal_outputs(name: str) -> None:
    """Zeroed by hand in the layers that make queries, keys and values, at the places where heads keep them."""
    _, module, given = opened(name)
    groups, _ = prunable_groups(module, given, attention="head_width")
    found = narrowing(groups)
    assert len(found) == 2
    for group in found:
        assert group.heads is not None
        assert (group.units, group.heads.count, group.heads.size, group.heads.goes) == (8, 4, 8, "head_width")
        assert sum(len(channels) for _, channels in group.heads.queries) == 32
    removed = {group.name: [1, 2, 6] for group in found}
    with torch.no_grad():
        for (path, axis), channels in removed_channels(groups, removed).items():
            layer: Any = module.get_submodule(path)
            assert {channel % 8 for channel in channels} == {1, 2, 6}
            if axis == "out":
                kept = torch.ones(len(layer.bias))
                kept[sorted(channels)] = 0
                layer.bias.mul_(kept)
                layer.weight.mul_(kept if name == "gpt2" else kept[:, None])
        expected = module(*given)
        pruned = copy.deepcopy(module)
        cut(pruned, groups, removed)
        assert (pruned(*given) - expected).abs().max() <= 1e-5 * max(1.0, expected.abs().max().item())
    network: Any = configured(pruned)
    attribute = SIZES[network.config.model_type].attribute
    assert {vars(part)[attribute] for part in network.modules() if attribute in vars(part)} == {5}


def test_of_a_vision_transformer_of_ones_own_too(network: Make, example: Tensor) -> None:
    module = network("transformer")
    groups, _ = prunable_groups(module, [example], attention="head_width")
    [group, _] = narrowing(groups)
    assert group.heads is not None
    assert group.heads.queries == (("attention.0.query", tuple(range(64))),)
    pruned = copy.deepcopy(module)
    cut(pruned, groups, {group.name: [0, 3]})
    attention = vars(pruned.get_submodule("attention.0"))
    names = ("num_attention_heads", "attention_head_size", "all_head_size")
    assert [attention[name] for name in names] == [8, 6, 48]
    kept = [channel for channel in range(64) if channel % 8 not in {0, 3}]
    for name, factor in (("query", (6 / 8) ** 0.5), ("key", 1.0), ("value", 1.0)):
        weight = module.get_parameter(f"attention.0.{name}.weight")[kept] * factor
        assert torch.allclose(pruned.get_parameter(f"attention.0.{name}.weight"), weight)


@pytest.mark.parametrize("name", TEXT)
def test_a_configuration_says_how_wide_heads_are(name: str, tmp_path: Path) -> None:
    factory, module, given = opened(name)
    settings = Pruning.model_validate(
        {"keep": {"macs": 0.5}, "importance": "magnitude", "attention": "head_width", "round_to": 1}
    )
    log = prune_module(module, given, settings)
    assert 0.3 < log.reached <= 0.6
    other = resized(factory, module)
    assert other is not factory
    network: Any = configured(module)
    sizes = SIZES[network.config.model_type]
    assert getattr(network.config, sizes.heads) == 4
    assert getattr(network.config, sizes.hidden) < 32
    network.save_pretrained(tmp_path)
    again = type(network).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        plain = {"input_ids": given[0], "attention_mask": given[1]}
        assert torch.equal(network(**plain).logits, again(**plain).logits)


def test_where_positions_turn_channels_of_heads_they_stay() -> None:
    _, module, given = opened("llama")
    groups, fixed = prunable_groups(module, given, attention="head_width")
    assert not narrowing(groups)
    assert any(name.endswith("q_proj") for name in fixed)


class Fixed(nn.Module):
    """Attention whose scale does not follow the size of its heads, written down nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = 2, 8
        self.query, self.key, self.value, self.last = (nn.Linear(16, 16) for _ in range(4))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        query, key, value = (
            layer(x).view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        y = torch.softmax(query @ key.transpose(2, 3) * 0.3, -1) @ value
        return self.head(self.last(y.transpose(1, 2).flatten(2)).mean(1))


def test_a_scale_of_its_own_is_noticed() -> None:
    torch.manual_seed(0)
    module, x = Fixed().eval(), torch.randn(2, 5, 16)
    groups, fixed = prunable_groups(module, [x], attention="head_width")
    assert not narrowing(groups)
    assert "not the same as silencing" in fixed["query"]
    assert narrowing(prunable_groups(module, [x])[0])
