from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.errors import UsageError
from compress.pruning.batch_norm import reestimate
from compress.pruning.choose import choose_units
from compress.pruning.double import double_without
from compress.pruning.groups import Group
from compress.pruning.importance.measures import MEASURES, Given
from compress.pruning.importance.score import LabelledBatch
from compress.pruning.isomorphic import isomorphism_classes
from compress.pruning.prunable import prunable_groups
from compress.pruning.prune import share_left
from compress.pruning.selection import OutOfReachError
from compress.pruning.settings import LOOKING, Importance, Pruning
from compress.pruning.surgery import cut

Make = Callable[[str], nn.Module]


@pytest.fixture
def batches() -> list[LabelledBatch]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(8, 4, 3, 16, 16, generator=generator)
    return [((part,), torch.randint(0, 5, (4,), generator=generator)) for part in images]


def _settings(**changes: Any) -> Pruning:
    return Pruning.model_validate({"keep": {"channels": 0.5}, "round_to": 1, **changes})


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
@pytest.mark.parametrize("name", ["tied", "resnet_a", "transformer"])
def test_looking_again_sees_the_pruned_network(
    name: str, importance: Importance, network: Make, example: Tensor, batches: list[LabelledBatch]
) -> None:
    module, example = network(name).double(), example.double()  # or rectifiers near 0 fall to either side
    batches = [((inputs.double(),), targets) for (inputs,), targets in batches]
    groups, _ = prunable_groups(module, [example])
    gone = {group.name: list(range(0, group.units, 3)) for group in groups if group.units > 3}
    measure, given = MEASURES[importance], Given(batches, functional.cross_entropy)
    found = measure.score(double_without(module, groups, gone, given.batches), groups, given)
    pruned = copy.deepcopy(module)
    cut(pruned, groups, gone)
    reestimate(pruned, [(torch.cat([inputs for (inputs,), _ in batches]),)])
    expected = measure.score(pruned, prunable_groups(pruned, [example])[0], given)
    for group in groups:
        left = [unit for unit in range(group.units) if unit not in gone.get(group.name, ())]
        # a network's own shortcut may put what is left in another order
        assert torch.allclose(found[group.name][left].sort().values, expected[group.name].sort().values, rtol=1e-5)
        assert (found[group.name][gone.get(group.name, [])] == 0).all()


@pytest.mark.parametrize("importance", get_args(Importance))
@pytest.mark.parametrize("scope", ["global", "layer", "isomorphic"])
def test_no_unit_goes_twice_and_the_share_is_reached(
    importance: str, scope: str, network: Make, example: Tensor, batches: list[LabelledBatch]
) -> None:
    module = network("resnet_b" if importance == "batch_norm" else "tied")
    groups, _ = prunable_groups(module, [example])
    share = share_left(module, groups, [example], "channels")
    rounds = {"rounds": 2} if importance in LOOKING else {}
    settings = _settings(importance=importance, scope=scope, **rounds)
    chosen = choose_units(module, groups, settings, share, batches=batches, loss=functional.cross_entropy)
    assert share(chosen) == pytest.approx(0.5, rel=0.05)
    assert all(len(units) == len(set(units)) for units in chosen.values())
    if scope != "global":
        kinds = isomorphism_classes(module, groups) if scope == "isomorphic" else {g.name: g.name for g in groups}
        for kind in set(kinds.values()):
            alike = [group for group in groups if kinds[group.name] == kind]
            gone = sum(len(chosen.get(group.name, ())) for group in alike) / sum(group.units for group in alike)
            assert abs(gone - 0.5) < 0.2  # a unit of the group of 4 is a quarter, and half of that may be missing


@pytest.mark.parametrize("name", ["resnet_a", "encoder_decoder", "transformer"])
def test_global_selection_keeps_the_asked_share_within_one_step_of_a_group(
    name: str, network: Make, example: Tensor
) -> None:
    module = network(name)
    groups, _ = prunable_groups(module, [example])
    share = share_left(module, groups, [example], "macs")
    largest = max(1 - share({group.name: [0]}) for group in groups)
    for seed in range(6):
        for asked in (0.8, 0.45):
            settings = _settings(keep={"macs": asked}, importance="random")
            chosen = choose_units(module, groups, settings, share, seed=seed)
            assert abs(share(chosen) - asked) <= largest


@pytest.mark.parametrize("importance", ["magnitude", "random", "taylor"])
@pytest.mark.parametrize("scope", ["global", "layer", "isomorphic"])
def test_no_layer_ends_at_the_least_that_can_be_kept(
    importance: str, scope: str, network: Make, example: Tensor, batches: list[LabelledBatch]
) -> None:
    module = network("resnet_a")
    groups, _ = prunable_groups(module, [example])
    share = share_left(module, groups, [example], "channels")
    least = 1 - sum((group.units - 1) * group.unit_size for group in groups) / sum(group.channels for group in groups)
    settings = _settings(importance=importance, scope=scope, keep={"channels": least}, minimum_share=1e-6)
    chosen = choose_units(module, groups, settings, share, batches=batches[:1], loss=functional.cross_entropy)
    assert [len(chosen[group.name]) for group in groups] == [group.units - 1 for group in groups]
    cut(module, groups, chosen)
    assert module(example).isfinite().all()


def test_random_goes_by_the_seed(network: Make, example: Tensor) -> None:
    module = network("tied")
    groups, _ = prunable_groups(module, [example])
    share = share_left(module, groups, [example], "channels")
    one, again, other = (
        choose_units(module, groups, _settings(importance="random"), share, seed=seed) for seed in (1, 1, 2)
    )
    assert one == again != other


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


@pytest.mark.parametrize("importance", LOOKING)
def test_what_looks_at_examples_needs_them(importance: str) -> None:
    group = Group("a", 4, 1, ())
    settings = _settings(importance=importance)
    with pytest.raises(UsageError, match=f"`importance: {importance}` needs training examples"):
        choose_units(nn.Linear(2, 4), [group], settings, lambda removed: 1.0, loss=functional.cross_entropy)


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_what_is_of_the_loss_needs_one(importance: str, batches: list[LabelledBatch]) -> None:
    settings = _settings(importance=importance)
    with pytest.raises(UsageError, match="needs training examples and a loss; or choose `magnitude`"):
        choose_units(nn.Linear(2, 4), [Group("a", 4, 1, ())], settings, lambda removed: 1.0, batches=batches)


def test_activation_needs_no_loss(network: Make, example: Tensor, batches: list[LabelledBatch]) -> None:
    module = network("tied")
    groups, _ = prunable_groups(module, [example])
    share = share_left(module, groups, [example], "channels")
    assert choose_units(module, groups, _settings(importance="activation", rounds=1), share, batches=batches)
