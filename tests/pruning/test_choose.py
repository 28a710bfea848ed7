from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError
from compress.pruning.batch_norm import reestimate
from compress.pruning.choose import _taylor_without, choose_units
from compress.pruning.groups import Group
from compress.pruning.importance.score import LabelledBatch, taylor_scores
from compress.pruning.prune import prunable_groups, share_left
from compress.pruning.selection import OutOfReachError
from compress.pruning.settings import Pruning
from compress.pruning.surgery import cut

Make = Callable[[str], nn.Module]


@pytest.fixture
def batches() -> list[LabelledBatch]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(8, 4, 3, 16, 16, generator=generator)
    return [((part,), torch.randint(0, 5, (4,), generator=generator)) for part in images]


def _settings(**changes: Any) -> Pruning:
    return Pruning.model_validate({"keep": {"channels": 0.5}, "round_to": 1, **changes})


@pytest.mark.parametrize("name", ["tied", "resnet_a", "transformer"])
def test_looking_again_sees_the_pruned_network(
    name: str, network: Make, example: Tensor, batches: list[LabelledBatch]
) -> None:
    module, example = network(name).double(), example.double()  # or rectifiers near 0 fall to either side
    batches = [((inputs.double(),), targets) for (inputs,), targets in batches]
    groups, _ = prunable_groups(module, [example])
    gone = {group.name: list(range(0, group.units, 3)) for group in groups if group.units > 3}
    found = _taylor_without(module, groups, gone, batches, functional.cross_entropy)
    pruned = copy.deepcopy(module)
    cut(pruned, groups, gone)
    reestimate(pruned, [(torch.cat([inputs for (inputs,), _ in batches]),)])
    expected = taylor_scores(pruned, prunable_groups(pruned, [example])[0], batches, functional.cross_entropy)
    for group in groups:
        left = [unit for unit in range(group.units) if unit not in gone.get(group.name, ())]
        # a network's own shortcut may put what is left in another order
        assert torch.allclose(found[group.name][left].sort().values, expected[group.name].sort().values, rtol=1e-5)
        assert (found[group.name][gone.get(group.name, [])] == 0).all()


@pytest.mark.parametrize("importance", ["taylor", "magnitude"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_no_unit_goes_twice_and_the_share_is_reached(
    importance: str, scope: str, network: Make, example: Tensor, batches: list[LabelledBatch]
) -> None:
    module = network("tied")
    groups, _ = prunable_groups(module, [example])
    share = share_left(module, groups, [example], "channels")
    settings = _settings(importance=importance, scope=scope)
    chosen = choose_units(module, groups, settings, share, batches=batches, loss=functional.cross_entropy)
    assert share(chosen) == pytest.approx(0.5, rel=0.05)
    assert all(len(units) == len(set(units)) for units in chosen.values())
    if scope == "layer":
        sizes = {group.name: group for group in groups}
        assert all(abs(len(units) / sizes[name].units - 0.5) < 0.2 for name, units in chosen.items())


def test_rounds_share_the_way(network: Make, example: Tensor, batches: list[LabelledBatch]) -> None:
    module = network("tied")
    groups, _ = prunable_groups(module, [example])
    share = share_left(module, groups, [example], "channels")
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return functional.cross_entropy(outputs, targets)

    for rounds in (1, 3):
        calls = 0
        chosen = choose_units(module, groups, _settings(rounds=rounds), share, batches=batches, loss=loss)
        assert calls == rounds * len(batches)
        assert share(chosen) == pytest.approx(0.5, rel=0.05)


def test_what_is_out_of_reach_is_found_before_any_gradient(
    network: Make, example: Tensor, batches: list[LabelledBatch]
) -> None:
    module = network("tied")
    groups, _ = prunable_groups(module, [example])
    share = share_left(module, groups, [example], "macs")

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        raise AssertionError

    with pytest.raises(OutOfReachError) as caught:
        choose_units(module, groups, _settings(keep={"macs": 0.01}), share, batches=batches, loss=loss)
    assert 0.01 < caught.value.least < 1


def test_taylor_needs_examples() -> None:
    group = Group("a", 4, 1, ())
    with pytest.raises(UsageError, match="needs training examples"):
        choose_units(nn.Linear(2, 4), [group], _settings(), lambda removed: 1.0)
