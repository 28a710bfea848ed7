from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.models.transformers_sizes import configured, head_size
from compress.pruning.prunable import Prunable, prunable_groups
from compress.pruning.prune import prune_module
from compress.pruning.settings import Pruning
from compress.pruning.uniform import uniform_ties
from tests.models.test_transformers_sizes import NETWORKS, opened

HIDDEN = {
    "bert": "attention.output.dense", "bert of words": "attention.output.dense", "roberta": "attention.output.dense",
    "distilbert": "attention.out_lin", "gpt2": "attn.c_proj", "llama": "self_attn.o_proj", "vit": "projection",
}  # fmt: skip
FEED_FORWARD = {"distilbert": "ffn.lin1", "gpt2": "mlp.c_fc", "llama": "mlp.gate_proj"}
HEADS = {"distilbert": "q_lin", "gpt2": "c_attn", "llama": "q_proj"}


def settings(**changes: Any) -> Pruning:
    return Pruning.model_validate({"keep": {"macs": 0.5}, "importance": "magnitude", "round_to": 1, **changes})


def shapes(module: nn.Module) -> dict[str, set[tuple[int, ...]]]:
    """Those of each parameter of a layer, by its name there, over all layers."""
    found: dict[str, set[tuple[int, ...]]] = {}
    for name, parameter in module.named_parameters():
        if inside := re.search(r"\.\d+\.(.*)", name):
            found.setdefault(inside[1], set()).add(tuple(parameter.shape))
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_what_one_number_says_is_tied(name: str) -> None:
    _, module, given = opened(name)
    groups, _ = prunable_groups(module, given)
    ties, fixed = uniform_ties(module, groups)
    assert fixed == {}
    assert set(ties) == {group.name for group in groups}
    by_tie: dict[object, list[str]] = {}
    for group, tie in ties.items():
        by_tie.setdefault(tie, []).append(group)
    wide = [
        names for names in by_tie.values() if all(n.endswith(FEED_FORWARD.get(name, "mediate.dense")) for n in names)
    ]
    heads = [names for names in by_tie.values() if any(n.endswith(HEADS.get(name, "query")) for n in names)]
    assert [len(names) for names in wide] == [2]
    assert len(heads) == 1 and sum(n.endswith(HEADS.get(name, "query")) for n in heads[0]) == 2
    with_hidden = any(n.endswith(HIDDEN[name]) for n in heads[0])
    assert with_hidden == (name != "llama")  # whose configuration says how wide a head is


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_stay_alike_and_heads_as_wide_as_they_were(name: str) -> None:
    _, module, given = opened(name)
    network: Any = configured(module)
    size = head_size(network)
    log = prune_module(module, given, settings())
    assert 0.3 < log.reached < 0.75
    assert len(shapes(module)) >= 9
    assert all(len(each) == 1 for each in shapes(module).values())
    for part in module.modules():
        for key in ("attention_head_size", "head_dim"):
            assert getattr(part, key, size) == size
    with torch.no_grad():
        assert torch.isfinite(module(*given)).all()


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_each_layer_loses_channels_of_its_own(name: str) -> None:
    _, module, given = opened(name)
    groups = Prunable.find(module, given, settings()).groups
    seen: dict[str, list[int]] = {}

    def recall(choose: Callable[[], dict[str, list[int]]]) -> dict[str, list[int]]:
        seen.update({group: sorted(units) for group, units in choose().items()})
        return choose()

    prune_module(module, given, settings(), recall=recall)
    one, other = (seen[group.name] for group in groups if group.name.endswith(FEED_FORWARD.get(name, "mediate.dense")))
    assert len(one) == len(other) > 0
    assert one != other


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_tied_stays_so_once_it_is_narrower(name: str) -> None:
    """Before anybody has told the configuration."""
    _, module, given = opened(name)
    before = Prunable.find(module, given, settings())
    prune_module(module, given, settings(keep={"macs": 0.75}))
    after = Prunable.find(module, given, settings())
    assert after.ties == before.ties
    assert after.fixed == before.fixed
    prune_module(module, given, settings(keep={"macs": 0.75}))
    assert all(len(each) == 1 for each in shapes(module).values())


def test_spent_groups_stay() -> None:
    _, module, given = opened("bert")
    name = next(g.name for g in Prunable.find(module, given, settings()).groups if g.name.endswith("mediate.dense"))
    network = Prunable.find(module, given, settings(), spent=[name])
    assert network.fixed[name] == "it has been cut to its least"
    assert name not in {group.name for group in network.groups}


def test_it_can_be_left_out() -> None:
    _, module, given = opened("bert")
    assert Prunable.find(module, given, settings(uniform=False)).ties == {}
    prune_module(module, given, settings(uniform=False, keep={"macs": 0.7}))
    assert len(shapes(module)["intermediate.dense.weight"]) == 2


class Wrapped(nn.Module):
    """A network of `transformers` with a head of one's own."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.inner, self.last = network, nn.Linear(32, 24), nn.Linear(24, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        hidden: Any = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.last(torch.relu(self.inner(hidden[:, 0])))


def test_what_no_configuration_says_stays() -> None:
    _, module, given = opened("distilbert")
    network: Any = configured(module)
    wrapped = Wrapped(network.distilbert).eval()
    groups, _ = prunable_groups(wrapped, given)
    ties, fixed = uniform_ties(wrapped, groups)
    assert fixed == {"inner": "no setting of a distilbert configuration says how wide it is"}
    assert set(ties) == {group.name for group in groups} - {"inner"}


def test_where_heads_stay_so_does_what_is_as_wide() -> None:
    _, module, given = opened("bert")
    groups, _ = prunable_groups(module, given)
    ties, fixed = uniform_ties(module, [group for group in groups if not group.heads])
    assert set(fixed.values()) == {"it is as wide as all attention heads, which cannot be pruned"}
    assert all(name.endswith("intermediate.dense") for name in ties)
    _, module, given = opened("llama")  # whose heads have a width of their own
    groups, _ = prunable_groups(module, given)
    ties, fixed = uniform_ties(module, [group for group in groups if not group.heads])
    assert fixed == {} and "hidden" in ties.values()


def test_other_networks_have_no_ties() -> None:
    assert uniform_ties(nn.Sequential(nn.Linear(4, 4)), []) == ({}, {})
