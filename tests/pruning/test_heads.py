from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compress.pruning.dependency import trace_groups
from compress.pruning.heads import Heads, head_axis, set_heads

Make = Callable[[str], nn.Module]


def test_modules_that_count_heads_are_found(network: Make, example: Tensor) -> None:
    groups, _ = trace_groups(network("transformer"), [example])
    found = [group for group in groups if group.heads]
    assert found[0].heads is not None
    assert found[0].heads.path == "attention.0"
    assert (found[0].heads.count, found[0].heads.size) == (8, 8)
    assert found[0].heads.queries == (("attention.0.query", tuple(range(64))),)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("attributes", "sizes", "place"),
    [
        ({"num_heads": 4}, [4, 8], 0),
        ({"num_heads": 4}, [3, 4, 8], 1),
        ({"head_dim": 8}, [4, 8], 0),
        ({"num_heads": True}, [1, 8], None),
        ({"width": 4}, [4, 8], None),
    ],
)
def test_the_axis_of_heads_is_known_by_attributes(
    attributes: dict[str, int], sizes: list[int], place: int | None
) -> None:
    part = nn.Module()
    vars(part).update(attributes)
    assert head_axis(part, sizes) == place


def test_sets_all_attributes_that_hold_sizes(network: Make) -> None:
    module = network("transformer")
    set_heads(module, [(Heads("attention.1", 8, 8, ()), 3)])
    attention = vars(module.get_submodule("attention.1"))
    assert [attention[name] for name in ("num_attention_heads", "attention_head_size", "all_head_size")] == [3, 8, 24]


def test_counts_of_queries_and_of_keys_are_told_apart() -> None:
    part = nn.Module()
    vars(part).update({"num_heads": 8, "num_key_value_heads": 4})
    module = nn.ModuleDict({"attention": part})
    set_heads(module, [(Heads("attention", 8, 2, ()), 4), (Heads("attention", 4, 2, ()), 2)])
    assert vars(part)["num_heads"] == 4
    assert vars(part)["num_key_value_heads"] == 2


def test_networks_without_attention_have_none(network: Make) -> None:
    groups, _ = trace_groups(network("resnet_b"), [torch.randn(2, 3, 16, 16)])
    assert not any(group.heads for group in groups)
