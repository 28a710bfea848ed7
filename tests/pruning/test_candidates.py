from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.pruning.batch_norm import reestimate
from compress.pruning.candidates import TRAINED, best_look
from compress.pruning.depth import drop_blocks
from compress.pruning.importance.measures import Given
from compress.pruning.importance.score import joined
from compress.pruning.judge import STEPS, Judge
from compress.pruning.reconstruct import reconstruct
from compress.pruning.surgery import cut
from compress.stage import Silent
from tests.pruning.test_cost_search import labelled, opened

Make = Callable[[str], nn.Module]


class Counting(Silent):
    """Counts the steps of each task."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Any]:
        def advance(steps: int = 1, note: str = "") -> None:
            self.steps[description] = self.steps.get(description, 0) + steps

        yield advance


@pytest.fixture
def given() -> Given:
    return labelled(8)


@pytest.mark.parametrize("name", ["resnet_a", "mobilenet"])
def test_the_distance_is_that_of_the_network_once_it_is_cut(
    name: str, network: Make, example: Tensor, given: Given
) -> None:
    module = network(name)
    search, model = opened(module, [example])
    for share in (0.7, 0.4):
        removed, shape = search.choose(model, share * model.predict(search.whole), search.look_at_whole(given))
        pruned = copy.deepcopy(module)
        cut(pruned, search.groups, removed)
        drop_blocks(pruned, sorted(shape.dropped))
        reestimate(pruned, (inputs for inputs, _ in joined(given.batches)))
        x = torch.cat([inputs[0] for inputs, _ in given.batches])
        with torch.no_grad():
            found, expected = pruned.eval()(x), module.eval()(x)
        wanted = float((found - expected).square().mean() / expected.var(correction=0))
        assert Judge(search, given).distance(removed, shape.dropped) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("name", ["resnet_a", "mobilenet"])
def test_a_few_steps_bring_it_nearer_on_examples_that_it_does_not_train_on(
    name: str, network: Make, example: Tensor, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, model = opened(network(name), [example])
    removed, shape = search.choose(model, 0.6 * model.predict(search.whole), search.look_at_whole(given))
    monkeypatch.setattr("compress.pruning.judge.STEPS", 0)
    before = Judge(search, given).distance_after_training(removed, shape.dropped)
    held = [*given.batches[3::4]]
    pruned = copy.deepcopy(search.module)
    reconstruct(pruned, search.groups, removed, given.batches, shape.dropped)
    cut(pruned, search.groups, removed)
    drop_blocks(pruned, sorted(shape.dropped))
    reestimate(pruned, (inputs for inputs, _ in joined(given.batches)))
    x = torch.cat([inputs[0] for inputs, _ in held])
    with torch.no_grad():
        found, expected = pruned.eval()(x), search.module.eval()(x)
    assert before == pytest.approx(float((found - expected).square().mean() / expected.var(correction=0)), rel=1e-3)
    monkeypatch.setattr("compress.pruning.judge.STEPS", STEPS)
    after = [Judge(search, given).distance_after_training(removed, shape.dropped) for _ in range(2)]
    assert after[0] == after[1] < before


def test_that_choice_is_taken_that_changes_the_answers_least(network: Make, example: Tensor, given: Given) -> None:
    search, model = opened(network("resnet_a"), [example])
    judge, wanted, progress = Judge(search, given), 0.5 * model.predict(search.whole), Counting()
    distances = []
    for count in (1, 4, 16):
        removed, shape = search.choose(model, wanted, best_look(search, model, wanted, given, count, progress))
        assert 0.85 * wanted <= model.predict(shape) <= wanted
        distances.append(judge.distance_after_training(removed, shape.dropped))
    judging, training = progress.steps.values()
    assert judging == 4 + 16 and training <= 4 + TRAINED  # of one there is nothing to judge
    assert distances[2] < distances[0] and distances[1] <= distances[0]


def test_of_large_outputs_few_are_kept(
    network: Make, example: Tensor, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, _ = opened(network("resnet_a"), [example])
    every = Judge(search, given)
    assert sum(len(targets) for _, targets in every.batches) == 32
    monkeypatch.setattr("compress.pruning.judge.MOST_NUMBERS", 5 * 4 * 6)  # classes, examples in a batch, batches
    assert sum(len(targets) for _, targets in Judge(search, given).batches) == 24
    monkeypatch.setattr("compress.pruning.judge.MOST_NUMBERS", 1)
    assert sum(len(targets) for _, targets in Judge(search, given).batches) == 16


def test_the_same_seed_gives_the_same_choice_and_the_network_stays(
    network: Make, example: Tensor, given: Given
) -> None:
    module = network("resnet_a")
    before = copy.deepcopy(module.state_dict())
    search, model = opened(module, [example])
    wanted = 0.5 * model.predict(search.whole)
    first, again = (
        search.choose(model, wanted, best_look(search, model, wanted, given, 6, Silent())) for _ in range(2)
    )
    assert first == again
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_without_examples_none_is_judged(network: Make, example: Tensor) -> None:
    search, model = opened(network("resnet_a"), [example], importance="magnitude", depth=False)
    wanted, progress = 0.5 * model.predict(search.whole), Counting()
    best_look(search, model, wanted, Given(), 6, progress)
    assert progress.steps == {}
