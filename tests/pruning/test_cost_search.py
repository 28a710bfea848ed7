from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compress.models import rest
from compress.pruning.cost_search import LEVELS, Look, Search, thinned
from compress.pruning.importance.measures import MEASURES, Given
from compress.pruning.latency.kinds import Layer
from compress.pruning.prunable import Prunable
from compress.pruning.settings import Pruning
from compress.pruning.shape import Kept, Shape
from tests.models.text_networks import inputs, made

Make = Callable[[str], nn.Module]


class Products:
    """A cost that is known: for each layer the product of its channels, and 100 for the layer itself."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = tuple(layers)

    def predict(self, shape: Shape) -> float:
        left = [x for x in self.layers if not any(x.name.startswith(f"{path}.") for path in shape.dropped)]
        return sum(self.layer_cost(layer, shape.kept) for layer in left)

    def layer_cost(self, layer: Layer, kept: Kept) -> float:
        return 100.0 + layer.inputs.left(kept) * layer.outputs.left(kept)


def labelled(batches: int) -> Given:
    """So many batches of four images."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(batches, 4, 3, 16, 16, generator=generator)
    return Given(
        [((part,), torch.randint(0, 5, (4,), generator=generator)) for part in images], functional.cross_entropy
    )


@pytest.fixture
def given() -> Given:
    return labelled(4)


def opened(module: nn.Module, arrays: list[Tensor], **changes: Any) -> tuple[Search, Products]:
    settings = Pruning.model_validate({"reach": {"speedup": 2}, "round_to": 1, "rounds": 2, **changes})
    network = Prunable.find(module, arrays, settings)
    return Search(network, settings), Products(network.layers())


def chosen(search: Search, model: Products, wanted: float, given: Given) -> tuple[dict[str, list[int]], Shape]:
    return search.choose(model, wanted, search.look(model, wanted, given))


def test_another_choice_needs_no_other_look(
    network: Make, example: Tensor, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, model = opened(network("resnet_a"), [example])
    whole = model.predict(search.whole)
    look = search.look(model, 0.6 * whole, given)
    assert search.choose(model, 0.6 * whole, look) == search.choose(model, 0.6 * whole, look)

    def refused(*anything: Any) -> None:
        raise AssertionError("it looked again")

    monkeypatch.setattr(search, "_look", refused)
    for share in (0.5, 0.7):
        removed, shape = search.choose(model, share * whole, look)
        assert 0.9 * share * whole <= model.predict(shape) <= share * whole
        assert {name: search.units[name] - len(units) for name, units in removed.items()}.items() <= shape.kept.items()


@pytest.mark.parametrize("settings", [{}, {"depth": False}, {"importance": "magnitude", "depth": False, "rounds": 5}])
@pytest.mark.parametrize("name", ["resnet_a", "mobilenet"])
def test_the_wanted_cost_is_reached_and_nothing_more_would_fit(
    name: str, settings: dict[str, Any], network: Make, example: Tensor, given: Given
) -> None:
    search, model = opened(network(name), [example], **settings)
    whole = model.predict(search.whole)
    for share in (0.8, 0.5):
        removed, shape = chosen(search, model, share * whole, given)
        assert 0.9 * share * whole <= model.predict(shape) <= share * whole
        assert all(len(units) == len(set(units)) for units in removed.values())
        assert shape.kept == {group.name: group.units - len(removed.get(group.name, ())) for group in search.groups}
        assert shape.dropped <= set(search.paths)
        for ladder in search.ladders:
            [(name_of, units)] = ladder[0].items()
            above = [level[name_of] for level in ladder if level[name_of] > shape.kept[name_of]]
            if above:
                other = model.predict(Shape({**shape.kept, name_of: above[-1]}, shape.dropped))
                assert other > share * whole or other == model.predict(shape), (name_of, units)


def test_the_least_important_go(network: Make, example: Tensor, given: Given) -> None:
    module = network("resnet_a")
    search, model = opened(module, [example], importance="magnitude", depth=False, rounds=1)
    removed, _ = chosen(search, model, 0.5 * model.predict(search.whole), given)
    scores = MEASURES["magnitude"].score(module, search.groups, given)
    assert sum(map(len, removed.values())) > 20
    for name, units in removed.items():
        least = set(torch.argsort(scores[name], stable=True)[: len(units)].tolist())
        assert set(units) == least


def test_blocks_that_do_nothing_go_first(network: Make, example: Tensor, given: Given) -> None:
    module = network("resnet_b")
    norm: Any = module.get_submodule("layer3.1.bn2")
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.zero_()
    search, model = opened(module, [example], rounds=1)
    whole = model.predict(search.whole)
    saved = whole - model.predict(Shape(search.units, frozenset({"layer3.1"})))
    removed, shape = chosen(search, model, whole - saved, given)
    assert shape == Shape(search.units, frozenset({"layer3.1"}))
    assert not any(removed.values())


def test_each_round_looks_anew_without_what_is_gone(network: Make, example: Tensor, given: Given) -> None:
    seen: list[float] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        found = functional.cross_entropy(outputs, targets)
        if torch.is_grad_enabled():
            seen.append(float(found.detach()))
        return found

    search, model = opened(network("resnet_a"), [example], rounds=3, depth=False)
    search.look(model, 0.4 * model.predict(search.whole), Given(given.batches, loss))
    count = len(given.batches)
    assert len(seen) == 3 * count
    assert seen[:count] != seen[count : 2 * count] != seen[2 * count :]


def test_ladders_are_short_and_keep_to_the_floors(network: Make, example: Tensor) -> None:
    search, _ = opened(network("resnet_a"), [example], round_to=4, minimum_share=0.3)
    for group, ladder in zip(search.groups, search.ladders, strict=True):
        levels = [level[group.name] for level in ladder]
        assert levels[0] == group.units and levels == sorted(set(levels), reverse=True)
        assert 2 <= len(levels) <= LEVELS
        assert levels[-1] == next(n for n in range(4, group.units + 1, 4) if n >= 0.3 * group.units)
        assert all(units % 4 == 0 for units in levels)
        assert [search.kept_at(n)[group.name] for n in range(len(levels))] == levels
        assert search.kept_at(LEVELS)[group.name] == levels[-1] == search.floor.kept[group.name]
        assert levels[-1] < search.middle.kept[group.name] < levels[0]


def test_of_a_container_one_block_stays(network: Make, example: Tensor) -> None:
    search, _ = opened(network("resnet_a"), [example])
    assert search.paths == ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]
    assert len(search.floor.dropped & {"layer1.0", "layer1.1"}) == 1
    assert {"layer2.1", "layer3.1"} < search.floor.dropped  # their stages begin with a block that has to stay
    assert search.whole.dropped == search.middle.dropped == frozenset()
    assert opened(network("resnet_a"), [example], depth=False)[0].paths == []


@pytest.mark.parametrize("ignored", ["layer1.0", "layer1.0.*", "layer1.0.conv2"])
def test_a_block_that_is_ignored_or_holds_what_is_stays(ignored: str, network: Make, example: Tensor) -> None:
    search, _ = opened(network("resnet_a"), [example], ignore=(ignored,))
    assert search.paths == ["layer1.1", "layer2.1", "layer3.1"]


def test_a_look_that_took_too_much_for_a_span_is_not_used_there(network: Make, example: Tensor, given: Given) -> None:
    search, model = opened(network("resnet_a"), [example])
    wanted = 0.4 * model.predict(search.whole)
    look = search.look(model, wanted, given)
    [name, *_] = [name for name, units in look.removed.items() if units]
    most = search.units[name]
    assert search.can_use(look)
    assert not search.within({name: (most, None)}).can_use(look)


@pytest.mark.parametrize("depth", [True, False])
def test_tied_groups_keep_the_same_share(depth: bool) -> None:
    _, module = made("distilbert", "text-classification", n_layers=3, n_heads=4)
    arrays = [torch.from_numpy(array) for array in inputs("text-classification", [7, 4])]
    search, model = opened(module, arrays, depth=depth)
    targets = torch.tensor([0, 2])
    whole = model.predict(search.whole)
    removed, shape = chosen(search, model, 0.5 * whole, Given([(tuple(arrays), targets)], functional.cross_entropy))
    assert model.predict(shape) <= 0.5 * whole
    layers = [f"network.distilbert.transformer.layer.{number}" for number in range(3)]
    left = [path for path in layers if path not in shape.dropped]
    assert (len(left) < 3) == depth
    for part in ("attention.q_lin", "ffn.lin1"):
        assert len({shape.kept[f"{path}.{part}"] for path in left}) == 1
    own = {tuple(sorted(units)) for name, units in removed.items() if name.endswith("ffn.lin1")}
    assert depth or len(own) == 3  # as many, and channels of its own


@pytest.mark.parametrize("share", [0.6, 0.4])
def test_widths_go_on_shrinking_once_a_layer_is_gone(share: float) -> None:
    _, module = made("distilbert", "text-classification", n_layers=3, n_heads=4)
    arrays = [torch.from_numpy(array) for array in inputs("text-classification", [7, 4])]
    search, model = opened(module, arrays, depth=True, rounds=4)
    whole, given = model.predict(search.whole), Given([(tuple(arrays), torch.tensor([0, 2]))], functional.cross_entropy)
    look = search.look(model, share * whole, given)
    gone = Look(look.removed, look.dropped | {search.paths[0]}, look.scores, look.orders, look.harm)
    removed, shape = search.choose(model, share * whole, gone)
    assert search.paths[0] in shape.dropped
    assert any(removed.values()), "only layers went"
    assert 0.8 * share < model.predict(shape) / whole <= share  # four heads are coarse steps


def test_the_network_is_left_as_it_was(network: Make, example: Tensor, given: Given) -> None:
    module = network("resnet_a")
    before, digest = copy.deepcopy(module), rest.state_digest(module)
    search, model = opened(module, [example])
    removed, shape = chosen(search, model, 0.5 * model.predict(search.whole), given)
    search.worth(removed, shape.dropped, given)
    assert rest.state_digest(module) == digest
    assert [path for path, _ in module.named_modules()] == [path for path, _ in before.named_modules()]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([8], [8]),
        ([48, 40, 32, 24, 16, 8], [48, 40, 32, 24, 16, 8]),
        ([64, 56, 48, 40, 32, 24, 16, 8], [64, 48, 40, 32, 16, 8]),
        (list(range(128, 0, -8)), [128, 96, 80, 64, 32, 8]),
    ],
)
def test_of_many_widths_round_ones_are_looked_at(steps: list[int], expected: list[int]) -> None:
    assert thinned(steps) == expected


@pytest.mark.parametrize("count", range(LEVELS, 60))
def test_thinned_widths_stand_about_evenly(count: int) -> None:
    found = thinned(list(range(count, 0, -1)))
    assert found[0] == count and found[-1] == 1 and len(found) == LEVELS
    assert found == sorted(set(found), reverse=True)
    assert all(one - other <= 2 * (count - 1) / (LEVELS - 1) + 1e-9 for one, other in itertools.pairwise(found))


def test_within_a_span_widths_stay(network: Make, example: Tensor, given: Given) -> None:
    search, model = opened(network("resnet_a"), [example])
    [name, *_] = [group.name for group in search.groups if group.units >= 8]
    levels = [level[name] for ladder in search.ladders for level in ladder if name in level]
    for span in ((levels[2], None), (0, levels[3]), (levels[1], levels[1])):
        narrow = search.within({name: span})
        for wanted in (0.8, 0.6, 0.4):
            aim = wanted * model.predict(search.whole)
            _, shape = narrow.choose(model, aim, narrow.look(model, aim, given))
            assert span[0] <= shape.kept[name] <= (span[1] or 10**6)
            assert narrow.allows(shape) and search.allows(shape)
    assert not search.within({name: (levels[2], None)}).allows(search.floor)
