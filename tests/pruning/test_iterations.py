from __future__ import annotations

import pytest

from compress.errors import UsageError
from compress.pruning.groups import Group
from compress.pruning.heads import Heads
from compress.pruning.iterations import Cuts, Stock, round_recipe, round_share, round_target
from compress.pruning.prune import PruneLog
from compress.pruning.settings import Keep, Pruning
from compress.pruning.stage import Recover


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_exact_rounds_multiply_to_the_share(rounds: int) -> None:
    left = 1.0
    for number in range(1, rounds + 1):
        share = round_share(round_target(0.3, number, rounds), left, left, last=number == rounds)
        assert share == pytest.approx(0.3 ** (1 / rounds)) if rounds > 1 else share == 0.3
        left *= share or 0
    assert left == pytest.approx(0.3)
    assert round_target(0.3, rounds, rounds) == 0.3


def test_a_round_makes_up_for_the_one_before() -> None:
    assert round_share(0.25, 0.4, 0.4, last=True) == pytest.approx(0.625)
    assert round_share(0.25, 0.6, 0.6, last=True) == pytest.approx(0.25 / 0.6)


def test_what_is_closed_must_be_found_elsewhere() -> None:
    assert round_share(0.5, 0.75, 0.5, last=True) == pytest.approx(0.5)
    with pytest.raises(UsageError, match=r"0\.5 cannot be reached .* 0\.75 is left"):
        round_share(0.5, 0.75, 0.25, last=True)


def test_a_round_that_could_only_lead_away_cuts_nothing() -> None:
    assert round_share(0.4, 0.39, 0.39, last=False) is None
    assert round_share(0.4, 0.41, 0.41, last=False) == pytest.approx(0.4 / 0.41)
    assert round_share(0.25, 0.255, 0.255, last=True) is None
    assert round_share(0.25, 0.26, 0.26, last=True) == pytest.approx(0.25 / 0.26)


@pytest.mark.parametrize(
    ("epochs", "rounds", "expected"), [(10, 1, [10]), (10, 3, [3, 3, 4]), (3, 3, [1, 1, 1]), (2, 3, [1, 1, 1])]
)
def test_epochs_are_shared_out(epochs: int, rounds: int, expected: list[int]) -> None:
    recipe = Recover(epochs=epochs)
    found = [round_recipe(recipe, number, rounds) for number in range(1, rounds + 1)]
    assert [part.epochs for part in found] == expected
    assert found[0].model_copy(update={"epochs": epochs}) == recipe


def test_the_warm_up_keeps_its_part() -> None:
    recipe = Recover(epochs=10, warmup_epochs=2)
    assert [round_recipe(recipe, number, 2).warmup_epochs for number in (1, 2)] == [1, 1]
    assert round_recipe(recipe, 1, 1) == recipe


def test_logs_of_rounds_are_one() -> None:
    wide, middle, narrow = ({"macs": macs, "parameters": 10} for macs in (100, 60, 30))
    first = PruneLog("macs", 0.6, 0.6, wide, middle, {"a": (8, 6), "b": (4, 3)}, {"c": "its outputs"})
    then = PruneLog("macs", 0.5, 0.5, middle, narrow, {"a": (6, 2)}, {"c": "its outputs", "b": "only all together"})
    none = Cuts(Stock((), (), {}, {}))
    one = none.after(first, {})
    log = one.after(then, {}).joined(0.25)
    assert (log.measure, log.asked, log.reached) == ("macs", 0.25, 0.3)
    assert (log.before, log.after, log.fixed) == (wide, narrow, first.fixed)
    assert log.widths == {"a": (8, 2), "b": (4, 3)}
    assert one.joined(0.6) == first
    assert none.share("macs", 0.99, last=True) == 0.99
    assert one.share("macs", 0.59, last=True) is None


SETTINGS = Pruning(keep=Keep(channels=0.5), round_to=2, minimum_share=0.25)


def test_each_group_keeps_its_least_of_the_unpruned_network() -> None:
    stock = Stock.of([Group("a", 16, 1, ()), Group("b", 10, 2, ()), Group("c", 2, 1, ())], {}, SETTINGS)
    assert stock.least == {"a": 4, "b": 3, "c": 2}
    assert stock.allowed({"a": range(8), "b": range(8)}) == {"a": list(range(8)), "b": list(range(7))}
    stock = stock.after({"a": range(8), "b": range(7)})
    assert (stock.left, stock.spent) == ({"a": 8, "b": 3, "c": 2}, ("b",))
    assert stock.allowed({"a": [7, 1, 2, 3, 6, 5], "b": [0]}) == {"a": [7, 1, 2, 3]}


def test_tied_groups_keep_the_same_least_and_lose_whole_steps() -> None:
    """Of 8 heads 3 are the least, so of 256 channels that are tied with them 96, though 80 would be enough for them."""
    heads, hidden = Group("heads", 8, 32, (), Heads("a", 8, 32, ())), Group("hidden", 256, 1, ())
    settings = Pruning(keep=Keep(channels=0.5), round_to=1, minimum_share=0.3)
    stock = Stock.of([heads, hidden], {"heads": "hidden", "hidden": "hidden"}, settings)
    assert stock.least == {"heads": 3, "hidden": 96}
    stock = stock.after({"heads": range(3), "hidden": range(96)})
    assert stock.allowed({"heads": [5, 4, 6], "hidden": range(96)}) == {"heads": [5, 4], "hidden": list(range(64))}
    assert stock.allowed({"heads": [5], "hidden": [], "other": [1]}) == {"other": [1]}


def test_shares_of_channels_are_of_the_groups_that_are_open() -> None:
    stock = Stock.of([Group("a", 16, 1, ()), Group("b", 8, 2, ())], {}, SETTINGS)
    assert stock.shares("channels", 1.0) == (1, 1)
    stock = stock.after({"a": range(4), "b": range(6)})
    assert stock.shares("channels", 0.1) == (16 / 32, 12 / 32)
    assert stock.shares("macs", 0.1) == (0.1, 0.1)
