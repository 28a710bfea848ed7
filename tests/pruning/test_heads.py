from __future__ import annotations

from collections.abc import Callable

from torch import nn

from compress.pruning.heads import Heads, find_heads, set_heads

Make = Callable[[str], nn.Module]


def test_finds_modules_that_count_heads(network: Make) -> None:
    found = find_heads(network("transformer"))
    names = tuple(f"attention.0.{name}" for name in ("query", "key", "value", "output"))
    assert found[0] == Heads("attention.0", 8, 8, names)
    assert len(found) == 2


def test_queries_keys_and_values_are_coupled_and_an_output_projection_is_not(network: Make) -> None:
    heads = find_heads(network("transformer"))[0]
    assert heads.is_attended_by({"attention.0.query", "attention.0.key", "attention.0.value"})
    assert not heads.is_attended_by({"attention.0.output", "patches", "attention.1.output"})


def test_sets_all_attributes_that_hold_sizes(network: Make) -> None:
    module = network("transformer")
    set_heads(module, find_heads(module)[1], 3)
    attention = vars(module.get_submodule("attention.1"))
    assert [attention[name] for name in ("num_attention_heads", "attention_head_size", "all_head_size")] == [3, 8, 24]


def test_networks_without_attention_have_none(network: Make) -> None:
    assert find_heads(network("resnet_b")) == []
