from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compress.pruning.batch_norm import reestimate
from compress.pruning.candidates import FEWER, LONG, SHORT, TRAINED, Contest, Entry, varied
from compress.pruning.depth import drop_blocks
from compress.pruning.examples import PRACTISED
from compress.pruning.importance.measures import Given
from compress.pruning.importance.score import joined
from compress.pruning.judge import Judge
from compress.pruning.noted import Noted
from compress.pruning.reconstruct import reconstruct
from compress.pruning.shape import Shape
from compress.pruning.surgery import cut
from compress.stage import Silent
from tests.pruning.test_cost_search import labelled, opened

Make = Callable[[str], nn.Module]


class Progressing(Silent):
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


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.pruning.candidates.SHORT", 4)
    monkeypatch.setattr("compress.pruning.candidates.LONG", 8)


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
    name: str, network: Make, example: Tensor, given: Given
) -> None:
    search, model = opened(network(name), [example])
    removed, shape = search.choose(model, 0.6 * model.predict(search.whole), search.look_at_whole(given))
    before = Judge(search, given).distance_after_training(removed, shape.dropped, 0)
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
    after = [Judge(search, given).distance_after_training(removed, shape.dropped, SHORT) for _ in range(2)]
    assert after[0] == after[1] < before


@pytest.mark.usefixtures("few_steps")
def test_that_choice_is_taken_that_changes_the_answers_least(network: Make, example: Tensor, given: Given) -> None:
    search, model = opened(network("resnet_a"), [example])
    judge, wanted, progress = Judge(search, given), 0.5 * model.predict(search.whole), Progressing()
    distances = []
    for count in (1, 4, 16):
        removed, shape = search.choose(
            model, wanted, Contest(search, given, count, progress, Noted()).best_look(search, model, wanted)
        )
        assert 0.85 * wanted <= model.predict(shape) <= wanted
        distances.append(judge.distance_after_training(removed, shape.dropped, 8))
    judging, training = progress.steps.values()
    assert judging == 4 + 16  # of one there is nothing to judge
    assert training == 2 * (4 * 4 + 2 * 8)  # of each two and two that are made of them, and the best two for long
    assert distances[2] < distances[0] and distances[1] <= distances[0]


def test_networks_that_differ_only_inside_of_blocks_that_are_gone_are_one(
    network: Make, example: Tensor, given: Given
) -> None:
    search, _ = opened(network("resnet_a"), [example])
    block = search.paths[0]
    inside = next(group.name for group in search.groups if group.name.startswith(f"{block}."))
    narrow = {**search.units, inside: search.units[inside] // 2}
    assert search.left_of(Shape(narrow)) != search.left_of(search.whole)
    gone = frozenset({block})
    assert search.left_of(Shape(narrow, gone)) == search.left_of(Shape(search.units, gone))


def test_good_choices_are_changed_in_a_few_weights(network: Make, example: Tensor, given: Given) -> None:
    search, _ = opened(network("resnet_a"), [example])
    contest = Contest(search, given, 12, Silent(), Noted())
    seen = search.look_at_whole(given)
    seen = replace(seen, scores={name: 1 + found for name, found in seen.scores.items()})
    seen = replace(seen, harm={path: 1 + harm for path, harm in seen.harm.items()})
    count = len(search.together) + len(seen.harm)
    for part, least, most in ((0.0, 1, 1), (0.25, 1, 0.5 * count), (1.0, count, count)):
        changed = []
        for _ in range(50):
            other = contest.otherwise(seen, part, 1.0)
            changed.append(
                sum(not torch.equal(other.scores[tied[0].name], seen.scores[tied[0].name]) for tied in search.together)
                + sum(other.harm[path] != harm for path, harm in seen.harm.items())
            )
        assert least <= sum(changed) / 50 <= most, part


def test_choices_whose_answers_are_not_numbers_teach_nothing_and_are_not_taken(
    network: Make, example: Tensor, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, model = opened(network("resnet_a"), [example])
    contest = Contest(search, given, 12, Silent(), Noted())
    monkeypatch.setattr(contest.judge, "distance", lambda removed, dropped: math.inf if dropped else 1.0)
    monkeypatch.setattr(contest, "whole", replace(contest.whole, harm=dict.fromkeys(contest.whole.harm, 1.0)))
    entered = contest.enter(search, model, 0.5 * model.predict(search.whole), 12)
    assert {entry.distance for entry in entered} == {1.0, math.inf}
    monkeypatch.setattr(
        contest.judge, "distance_after_training", lambda removed, dropped, steps: math.inf if dropped else 0.5
    )
    assert not contest.best_after_training(varied(entered)[:4], lambda entry: entry).shape.dropped


@pytest.mark.usefixtures("few_steps")
def test_for_a_further_cost_fewer_are_judged_and_none_twice(
    network: Make, example: Tensor, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, model = opened(network("resnet_a"), [example])
    progress = Progressing()
    contest = Contest(search, given, 24, progress, Noted())
    judged, trained = list[Hashable](), list[Hashable]()
    for seen, name in ((judged, "distance"), (trained, "distance_after_training")):
        plain = getattr(contest.judge, name)

        def noting(removed: Any, dropped: Any, *steps: int, seen: list[Hashable] = seen, plain: Any = plain) -> float:
            kept = {group: units - len(removed.get(group, ())) for group, units in search.units.items()}
            seen.append((search.left_of(Shape(kept, frozenset(dropped))), *steps))
            return float(plain(removed, dropped, *steps))

        monkeypatch.setattr(contest.judge, name, noting)
    whole = model.predict(search.whole)
    contest.best_look(search, model, 0.5 * whole)
    training = 2 * (24 // TRAINED) * 4 + 2 * 8
    assert list(progress.steps.values()) == [24, training]
    once = len(judged)
    contest.best_look(search, model, 0.5 * whole)
    assert list(progress.steps.values()) == [24 + 24 // FEWER, training + 2 * 2 * 4 + 2 * 8]
    assert len(set(judged)) == len(judged) <= once + 24 // FEWER + 1
    assert len(set(trained)) == len(trained) <= 2 * (24 // TRAINED) + 2 * 2 + 2 * 2
    few = Contest(search, given, 2, Progressing(), Noted())
    for _ in range(2):
        assert few.best_look(search, model, 0.5 * whole).scores
    tied = search.ladders[0]
    narrow = search.within({name: (0, units) for name, units in tied[1].items()})
    look = contest.best_look(narrow, model, 0.5 * whole)
    removed, shape = narrow.choose(model, 0.5 * whole, look)
    assert narrow.allows(shape) and model.predict(shape) <= 0.5 * whole
    alone = narrow.choose(model, 0.5 * whole, narrow.look(model, 0.5 * whole, given))
    judge = Judge(search, given)
    assert judge.distance(removed, shape.dropped) <= 1.1 * judge.distance(alone[0], alone[1].dropped)


def test_others_are_made_of_those_that_train_well_and_the_best_are_trained_again_for_longer(
    network: Make, example: Tensor, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training is a stand-in: of those that are good after a moment, the last one to be trained for longer is best."""
    search, _ = opened(network("resnet_a"), [example])
    contest, asked, changed = Contest(search, given, 96, Silent(), Noted()), list[int](), list[Entry]()
    look = search.look_at_whole(given)
    shapes = [Shape({**search.units, search.groups[0].name: units}) for units in range(1, 33)]
    entries = [Entry(look, {}, shape, float(number)) for number, shape in enumerate(shapes)]
    numbers = iter(range(32))
    short = [abs(number - 20.1) for number in range(32)]

    def train(removed: Any, dropped: Any, steps: int) -> float:
        asked.append(steps)
        if steps == SHORT:
            return short[next(numbers)]
        return -float(len(asked))  # the last of the finalists, which did worst before, is best

    def change(entry: Entry) -> Entry:
        changed.append(entry)
        return entries[15 + len(changed)]

    monkeypatch.setattr(contest.judge, "distance_after_training", train)
    best = contest.best_after_training(entries[:16], change)
    assert Counter(asked) == {SHORT: 32, LONG: 4}
    assert entries.index(replace(best, distance=22.0)) == 22  # 20, 21, 19 and 22 were the best after a moment
    assert min(short[:16]) <= changed[0].distance <= 20.1  # of the first ones, as far as training says
    assert sum(entry.distance for entry in changed) / 16 < sum(short) / 32


def test_choices_that_drop_other_blocks_have_their_turn_before_a_third_that_drops_the_same(
    network: Make, example: Tensor, given: Given
) -> None:
    search, _ = opened(network("resnet_a"), [example])
    look, (one, other, *_) = search.look_at_whole(given), search.paths
    sets = [frozenset({one}), frozenset({one}), frozenset({one}), frozenset({other}), frozenset[str]()]
    entries = [Entry(look, {}, Shape(search.units, dropped), float(number)) for number, dropped in enumerate(sets)]
    assert [entry.distance for entry in varied(reversed(entries))] == [0.0, 1.0, 3.0, 4.0, 2.0]


def test_it_is_trained_on_more_examples_where_there_are_more(network: Make, example: Tensor, given: Given) -> None:
    search, _ = opened(network("resnet_a"), [example])
    for more, count in (((), 32), (labelled(40).batches, 160), (labelled(400).batches, PRACTISED)):
        fit, check = Judge(search, replace(given, practice=more)).practice
        sizes = [sum(len(inputs[0]) for inputs, _ in part) for part in (fit, check)]
        assert sizes == [count * 3 // 4, count // 4]
        with torch.no_grad():
            assert all(torch.equal(search.module(*inputs), wanted[0]) for inputs, wanted in (*fit, *check))


def test_they_are_judged_in_the_precision_of_training(network: Make, example: Tensor, given: Given) -> None:
    search, model = opened(network("resnet_a"), [example])
    removed, shape = search.choose(model, 0.6 * model.predict(search.whole), search.look_at_whole(given))
    plain, half, scaled = (Judge(search, replace(given, precision=name)) for name in ("fp32", "bf16", "fp16"))
    for steps in (0, 8):
        exact, rounded, other = (
            judge.distance_after_training(removed, shape.dropped, steps) for judge in (plain, half, scaled)
        )
        assert rounded == pytest.approx(exact, rel=0.1)
        assert rounded != exact
        assert other == exact  # without a scale for gradients: what is best on this device


def test_of_large_outputs_few_are_kept(
    network: Make, example: Tensor, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, _ = opened(network("resnet_a"), [example])
    every = Judge(search, given)
    assert sum(len(inputs[0]) for inputs, _ in every.known) == 32
    monkeypatch.setattr("compress.pruning.judge.MOST_NUMBERS", 5 * 4 * 6)  # classes, examples in a batch, batches
    assert sum(len(inputs[0]) for inputs, _ in Judge(search, given).known) == 24
    monkeypatch.setattr("compress.pruning.judge.MOST_NUMBERS", 1)
    assert sum(len(inputs[0]) for inputs, _ in Judge(search, given).known) == 16


@pytest.mark.usefixtures("few_steps")
def test_the_same_seed_gives_the_same_choice_and_the_network_stays(
    network: Make, example: Tensor, given: Given
) -> None:
    module = network("resnet_a")
    before = copy.deepcopy(module.state_dict())
    search, model = opened(module, [example])
    wanted = 0.5 * model.predict(search.whole)
    first, again = (
        search.choose(model, wanted, Contest(search, given, 6, Silent(), Noted()).best_look(search, model, wanted))
        for _ in range(2)
    )
    assert first == again
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_without_examples_none_is_judged(network: Make, example: Tensor) -> None:
    search, model = opened(network("resnet_a"), [example], importance="magnitude", depth=False)
    wanted, progress = 0.5 * model.predict(search.whole), Progressing()
    Contest(search, Given(), 6, progress, Noted()).best_look(search, model, wanted)
    assert progress.steps == {}
