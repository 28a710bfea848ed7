from __future__ import annotations

import numpy as np
import pytest

from compress.exporting.difference import measure

STEP = 0.5
VALUES = np.random.default_rng(0).integers(-50, 50, (4, 8, 8)) * STEP


def test_the_worst_element_is_named_with_both_values_and_shares_are_counted() -> None:
    found = VALUES.copy()
    found[1, 2, 3] += 7 * STEP
    found[0, 0, :4] += STEP
    difference = measure(VALUES, found, STEP)
    assert difference.index == (1, 2, 3)
    assert (difference.reference, difference.candidate) == (VALUES[1, 2, 3], VALUES[1, 2, 3] + 3.5)
    assert difference.steps == 7
    assert difference.share == 1 / VALUES.size
    assert difference.share_half == 5 / VALUES.size
    assert f"torch has {VALUES[1, 2, 3]:.6g} and the file {found[1, 2, 3]:.6g}" in difference.sentence(
        "torch", "the file"
    )


def test_one_step_is_a_tie_and_no_difference() -> None:
    assert measure(VALUES, VALUES + STEP, STEP).share == 0


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (VALUES * 4, "nearly all are 4 times"),
        (np.rint(VALUES / 4 / STEP) * STEP, "nearly all are 0.25 times"),
        (np.clip(VALUES * 4, -40, 40), "nearly all are 4 times"),
        (VALUES + 9 * STEP, "nearly all are +9 steps off"),
        (np.maximum(VALUES, 0), "a limit to [0, 24.5], as a relu or clip sets it, should not be there"),
        (VALUES.swapaxes(1, 2), "axes 1 and 2 are swapped"),
        (np.where(VALUES > 20, np.nan, VALUES), "are not finite"),
        (VALUES[:2], "the shapes are [4, 8, 8] and [2, 8, 8]"),
        (np.random.default_rng(1).permutation(VALUES.ravel()).reshape(VALUES.shape), ""),
    ],
)
def test_what_is_wrong_is_told_if_it_is_one_thing(found: np.ndarray, rule: str) -> None:
    difference = measure(VALUES, found, STEP).explained()
    assert difference.share > 0.01
    assert rule in difference.rule
    assert bool(difference.rule) == bool(rule)


def test_a_missing_relu_is_told() -> None:
    assert "is missing" in measure(np.maximum(VALUES, 0), VALUES, STEP).explained().rule


def test_a_step_for_each_channel() -> None:
    steps = np.array([1.0, 10.0]).reshape(2, 1)
    assert measure(np.zeros((2, 3)), np.full((2, 3), 5.0), steps).share == 0.5
