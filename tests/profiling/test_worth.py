from __future__ import annotations

import random
from dataclasses import replace

import pytest

from compress.profiling.statistics import LEAST_ROUNDS
from compress.profiling.worth import Timed, fastest, gain, worth


def timed(name: str, p50_ms: float, *, int8: bool = False, spread: float = 0.001, seed: int = 0) -> Timed:
    """Eight rounds around a median; those of one seed drift alike, as interleaved ones do."""
    chance = random.Random(seed)
    drifts = [1 + chance.uniform(-spread, spread) for _ in range(8)]
    return Timed(name, int8, p50_ms, [[p50_ms * drift * (1 + 0.0001 * call) for call in range(9)] for drift in drifts])


FLOAT = timed("float", 1.0)


def test_the_gain_is_the_ratio_of_medians_and_its_interval_that_of_the_rounds() -> None:
    found = gain(timed("int8", 0.5, int8=True), FLOAT)
    assert found.value == 2.0
    assert (found.low, found.high) == pytest.approx((2.0, 2.0), rel=1e-3)  # the same drift in every round cancels


def test_without_common_rounds_nothing_is_beyond_chance() -> None:
    found = gain(Timed("int8", True, 0.1), FLOAT)
    assert (found.value, found.low, found.high) == (10.0, 0.0, float("inf"))
    assert fastest([Timed("int8", True, 0.1), FLOAT]).name == "float"


@pytest.mark.parametrize(("count", "told"), [(2, False), (LEAST_ROUNDS - 1, False), (LEAST_ROUNDS, True)])
def test_few_rounds_decide_what_is_clear_and_tell_no_interval(count: int, told: bool) -> None:
    clear, unsure, base = (
        replace(one, rounds_ms=one.rounds_ms[:count])
        for one in (timed("int8", 0.1, int8=True), timed("int8", 0.9, int8=True, spread=0.2, seed=1), FLOAT)
    )
    assert (fastest([clear, base]).name, fastest([unsure, base]).name) == ("int8", "float")
    assert gain(unsure, base).low < 1 < gain(unsure, base).value
    said, doubted = worth(clear, base), worth(unsure, base)
    assert said.pays and (said.as_json()["speedup_ci95"] is not None) == told and said.said.endswith(")") == told
    assert not doubted.pays and (f"it takes {LEAST_ROUNDS} rounds" in doubted.reasons[0]) != told


def test_int8_is_the_fastest_only_beyond_chance() -> None:
    clear, unsure = timed("clear", 0.8, int8=True), timed("unsure", 0.99, int8=True, spread=0.2, seed=1)
    assert gain(unsure, FLOAT).low < 1 < gain(unsure, FLOAT).value
    assert fastest([FLOAT, clear]).name == "clear"
    assert fastest([FLOAT, unsure]).name == "float"
    assert fastest([unsure, clear]).name == "clear"
    assert fastest([unsure]).name == "unsure"  # there is nothing else


def test_a_float_file_need_not_be_faster_beyond_chance() -> None:
    assert fastest([timed("first", 1.001, spread=0.2, seed=1), FLOAT]).name == "float"


def test_int8_that_pays_is_said_to_without_reasons() -> None:
    found = worth(timed("int8", 0.5, int8=True), FLOAT, costs=["never said"])
    assert found.pays and found.reasons == ()
    assert found.said == "int8 pays here: int8 is 2.00x faster than float (2.00 to 2.00)"


def test_int8_that_is_slower_says_what_costs() -> None:
    found = worth(timed("int8", 1.25, int8=True), FLOAT, costs=["boundaries: 40% of its time"])
    assert not found.pays
    assert found.said == "int8 does not pay here: int8 runs at 0.80x of float's speed (0.80 to 0.80)"
    assert found.reasons == ("boundaries: 40% of its time",)


def test_a_gain_within_noise_is_said_to_be_chance() -> None:
    found = worth(timed("int8", 0.99, int8=True, spread=0.2, seed=1), FLOAT, needed="it is needed")
    assert not found.pays
    assert found.reasons[0] == "it is needed" and found.reasons[1].startswith("this may be chance")


def test_fast_int8_that_loses_too_much_does_not_pay() -> None:
    found = worth(timed("int8", 0.5, int8=True), FLOAT, missed="loses 0.2, allowed is 0.01", costs=["never said"])
    assert not found.pays
    assert found.said == "no int8 file is within the budget: int8 loses 0.2, allowed is 0.01"
    assert found.reasons == ("it would be 2.00x faster than float (2.00 to 2.00)",)


def test_an_interval_that_is_not_known_is_null_in_json() -> None:
    plain = worth(Timed("int8", True, 0.5), Timed("float", False, 1.0)).as_json()
    assert (plain["speedup"], plain["speedup_ci95"], plain["pays"]) == (2.0, None, False)
    assert "(" not in plain["said"]


def test_on_an_unsteady_machine_what_a_file_differs_from_itself_is_no_verdict() -> None:
    calls = [[0.9 + 0.001 * call for call in range(9)]] * 8
    slower = [[1.0 + 0.001 * call for call in range(9)]] * 8
    int8, floating = Timed("int8", True, 0.904, calls), Timed("float", False, 1.004, slower)
    steady = gain(int8, floating)
    assert steady.low > 1.1
    for noise, same in ((0.04, True), (0.12, False)):
        found = gain(replace(int8, noise=noise), replace(floating, noise=noise))
        assert (found == steady) is same
    assert found.low == pytest.approx(steady.low / 1.12) and found.high == pytest.approx(steady.high * 1.12)
    assert found.low < 1
    noisy = [replace(file, noise=0.12) for file in (int8, floating)]
    assert (fastest([int8, floating]).name, fastest(noisy).name) == ("int8", "float")
