from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.pruning.importance.measures import MEASURES, Given, no_loss
from compress.pruning.importance.score import LabelledBatch, Sliced
from compress.pruning.prunable import prunable_groups
from compress.pruning.settings import LOOKING, Importance

Make = Callable[[str], nn.Module]


def test_the_table_has_what_the_settings_name() -> None:
    assert tuple(MEASURES) == get_args(Importance)
    assert tuple(name for name, measure in MEASURES.items() if measure.reads != "weights") == LOOKING


@pytest.fixture
def batches() -> list[LabelledBatch]:
    images = torch.randn(4, 4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    return [((part,), torch.tensor([0, 1, 2, 3])) for part in images]


@pytest.mark.parametrize("importance", MEASURES)
@pytest.mark.parametrize("name", ["resnet_b", "mobilenet"])
def test_every_unit_has_a_score_that_is_not_negative(
    importance: Importance, name: str, network: Make, example: Tensor, batches: list[LabelledBatch]
) -> None:
    module = network(name)
    groups, _ = prunable_groups(module, [example])
    before = {key: value.clone() for key, value in module.state_dict().items()}
    scores = MEASURES[importance].score(module, groups, Given(batches, functional.cross_entropy))
    assert {key: value.shape for key, value in scores.items()} == {group.name: (group.units,) for group in groups}
    assert all(value.isfinite().all() and (value >= 0).all() for value in scores.values())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("importance", [name for name in MEASURES if name != "random"])
def test_channels_whose_weights_are_all_zero_come_first(
    importance: Importance, network: Make, example: Tensor, batches: list[LabelledBatch]
) -> None:
    """For `fpgm` because filters have mean 0 here, as they nearly have in trained networks: zero is their median."""
    module = network("resnet_b")
    groups, _ = prunable_groups(module, [example])
    dead = {group.name: list(range(1, group.units, 3)) for group in groups}
    for group in groups:
        sliced = Sliced(module, group)
        for tensor, (dim, index), units in zip(sliced.tensors, sliced._cuts, sliced.units, strict=True):
            if group.units > 1:
                places = torch.arange(tensor.shape[dim]) if index is None else index
                hit = places[torch.isin(units, torch.tensor(dead[group.name]))]
                tensor.data.index_fill_(dim, hit, 0.0)
    scores = MEASURES[importance].score(module, groups, Given(batches, functional.cross_entropy))
    for group in groups:
        alive = [unit for unit in range(group.units) if unit not in dead[group.name]]
        assert scores[group.name][dead[group.name]].max() < scores[group.name][alive].min()


def test_what_needs_a_loss_fails_without() -> None:
    with pytest.raises(ValueError, match="needs a loss"):
        no_loss(torch.zeros(1), torch.zeros(1))
