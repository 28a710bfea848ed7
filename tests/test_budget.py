from __future__ import annotations

from dataclasses import replace

import pytest

from compress.budget import Candidate, decide, judge, values, worth_of_int8
from compress.profiling.worth import Worth

REFERENCE = Candidate("teacher", 0.98, 0.98, 1.0, 1.1, 1.3, 1_000_000, 8_000_000)
SMALL = Candidate("small", 0.975, 0.974, 0.25, 0.3, 0.4, 90_000, 4_000_000)


def test_values_are_against_the_reference() -> None:
    found = values(SMALL, REFERENCE, True, "test")
    assert found["accuracy_drop"] == pytest.approx(0.006)
    assert found["metric_drop"] == pytest.approx(0.006 / 0.98)
    assert found["speedup"] == pytest.approx(4.0)
    assert found["size_ratio"] == pytest.approx(1e6 / 9e4)


def test_an_error_that_rises_is_a_drop() -> None:
    reference, worse = replace(REFERENCE, test=0.50), replace(SMALL, test=0.55)
    assert values(worse, reference, False, "test")["metric_drop"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "limit", "met"),
    [("speedup", 4.0, True), ("speedup", 4.1, False), ("size_bytes", 90_000, True), ("size_bytes", 89_999, False),
     ("accuracy_drop", 0.006, True), ("accuracy_drop", 0.005, False), ("latency_p99_ms", 0.4, True)],
)  # fmt: skip
def test_limits_hold_up_to_the_limit(name: str, limit: float, met: bool) -> None:
    (line,) = judge(SMALL, REFERENCE, {name: limit}, True, "test")
    assert line.met is met


def test_memory_that_was_not_measured_meets_no_limit() -> None:
    (line,) = judge(replace(SMALL, peak_memory_bytes=None), REFERENCE, {"peak_memory_bytes": 1e9}, True, "test")
    assert (line.value, line.met) == (None, False)


def test_the_fastest_that_meets_the_budget_is_deployed() -> None:
    slow, wrong = replace(SMALL, name="slow", p50_ms=0.5), replace(SMALL, name="wrong", p50_ms=0.1, validation=0.8)
    verdict = decide([REFERENCE, slow, SMALL, wrong], REFERENCE, {"accuracy_drop": 0.01}, True)
    assert (verdict.deploy, verdict.met) == ("small", True)


def test_validation_chooses_and_test_only_judges() -> None:
    lucky = replace(SMALL, name="lucky", p50_ms=0.2, validation=0.90, test=0.99)
    unlucky = replace(SMALL, name="unlucky", p50_ms=0.2, validation=0.979, test=0.90)
    assert decide([REFERENCE, SMALL, lucky], REFERENCE, {"accuracy_drop": 0.01}, True).deploy == "small"
    verdict = decide([REFERENCE, SMALL, unlucky], REFERENCE, {"accuracy_drop": 0.01}, True)
    assert (verdict.deploy, verdict.judged, verdict.met) == (None, "unlucky", False)
    assert "test data" in verdict.reason


def test_a_budget_that_nothing_meets_deploys_nothing_and_shows_the_nearest() -> None:
    verdict = decide([REFERENCE, SMALL], REFERENCE, {"speedup": 100, "size_ratio": 5}, True)
    assert (verdict.deploy, verdict.judged) == (None, "small")
    assert [line.met for line in verdict.lines] == [False, True]


def test_what_is_missed_on_validation_alone_is_named() -> None:
    """Test data, on which all is well, does not choose; the reason says what did not hold where it counted."""
    learnt_it = replace(REFERENCE, validation=1.0)
    verdict = decide([learnt_it, SMALL], learnt_it, {"accuracy_drop": 0.01, "speedup": 2}, True)
    assert not verdict.met and all(line.met for line in verdict.lines)
    assert "no file meets the budget on validation data" in verdict.reason
    assert "small is nearest, but misses accuracy_drop" in verdict.reason


def test_without_a_budget_a_fast_but_broken_file_is_not_deployed() -> None:
    broken = replace(SMALL, name="broken", p50_ms=0.01, validation=0.1, test=0.1)
    assert decide([REFERENCE, SMALL, broken], REFERENCE, {}, True).deploy == "small"


def test_a_gain_over_a_reference_that_knows_nothing_is_no_loss() -> None:
    nothing, some = (replace(REFERENCE, test=accuracy) for accuracy in (0.0, 0.1))
    assert values(some, nothing, True, "test")["metric_drop"] == -float("inf")
    assert values(nothing, nothing, True, "test")["metric_drop"] == 0
    assert values(some, nothing, False, "test")["metric_drop"] == float("inf")


def rounds(p50_ms: float, *drifts: float) -> tuple[tuple[float, ...], ...]:
    """Calls of rounds that were slower than the median by these factors."""
    return tuple(tuple(p50_ms * drift * (1 + 0.001 * call) for call in range(5)) for drift in drifts)


STEADY, WILD = (1.0, 1.01, 0.99, 1.0), (0.7, 1.4, 0.8, 1.2)
TEACHER = replace(REFERENCE, rounds_ms=rounds(1.0, *STEADY))
FLOAT = replace(SMALL, name="float", p50_ms=0.3, size_bytes=400_000, rounds_ms=rounds(0.3, *STEADY))
INT8 = replace(SMALL, name="int8", p50_ms=0.15, size_bytes=90_000, is_int8=True, rounds_ms=rounds(0.15, *STEADY))
UNSURE = replace(INT8, p50_ms=0.28, rounds_ms=rounds(0.28, *WILD))
LIMITS = {"accuracy_drop": 0.01}


def weighed(int8: Candidate, budget: dict[str, float], deploy: str | None) -> Worth:
    found = worth_of_int8(
        [TEACHER, FLOAT, int8], TEACHER, budget, True, deploy=deploy, costs=lambda ours, theirs: [f"{ours} / {theirs}"]
    )
    assert found is not None
    return found


def test_int8_that_is_faster_beyond_chance_is_deployed_and_pays() -> None:
    assert decide([TEACHER, FLOAT, INT8], TEACHER, LIMITS, True).deploy == "int8"
    found = weighed(INT8, LIMITS, "int8")
    assert (found.pays, found.over, found.speedup.value, found.reasons) == (True, "float", 2.0, ())


def test_a_difference_within_noise_does_not_decide_for_int8() -> None:
    verdict = decide([TEACHER, FLOAT, UNSURE], TEACHER, LIMITS, True)
    assert verdict.deploy == "float"
    assert verdict.reason == "the fastest file that meets the budget; int8, in int8, is not faster beyond chance"
    found = weighed(UNSURE, LIMITS, "float")
    assert not found.pays and "may be chance" in found.reasons[0] and found.reasons[-1] == "int8 / float"


def test_int8_that_is_slower_is_not_deployed() -> None:
    slow = replace(INT8, p50_ms=0.4, rounds_ms=rounds(0.4, *STEADY))
    verdict = decide([TEACHER, FLOAT, slow], TEACHER, LIMITS, True)
    assert (verdict.deploy, verdict.reason) == ("float", "the fastest file that meets the budget")
    assert weighed(slow, LIMITS, "float").said.startswith("int8 does not pay here: int8 runs at 0.75x of float's speed")


def test_a_size_budget_may_still_need_int8_and_then_says_so() -> None:
    slow = replace(INT8, p50_ms=0.4, rounds_ms=rounds(0.4, *STEADY))
    limits = {**LIMITS, "size_bytes": 100_000}
    assert decide([TEACHER, FLOAT, slow], TEACHER, limits, True).deploy == "int8"
    found = weighed(slow, limits, "int8")
    assert not found.pays
    assert found.reasons[0] == (
        "it is deployed for the rest of the budget, which no float file meets: float misses size_bytes"
    )


def test_int8_that_loses_too_much_says_how_much() -> None:
    wrong = replace(INT8, validation=0.9)
    assert decide([TEACHER, FLOAT, wrong], TEACHER, LIMITS, True).deploy == "float"
    found = weighed(wrong, LIMITS, "float")
    assert not found.pays
    assert "misses accuracy_drop on validation data, with 0.08 where 0.01 is allowed" in found.said
    assert "it would be 2.00x faster than float" in found.reasons[0]


def test_int8_is_beside_the_best_float_file_that_is_good_enough() -> None:
    broken = replace(FLOAT, name="broken", p50_ms=0.05, validation=0.2, rounds_ms=rounds(0.05, *STEADY))
    found = worth_of_int8(
        [TEACHER, FLOAT, broken, INT8], TEACHER, LIMITS, True, deploy="int8", costs=lambda ours, theirs: []
    )
    assert found is not None and found.over == "float" and found.pays


def test_nothing_is_said_of_int8_where_there_is_none() -> None:
    assert worth_of_int8([TEACHER, FLOAT], TEACHER, {}, True, deploy="float", costs=lambda ours, theirs: []) is None
