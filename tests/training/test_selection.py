from __future__ import annotations

import math

import pytest

from compress.training.selection import epochs_without_progress, is_best


@pytest.mark.parametrize(
    ("candidate", "best", "higher", "lower"),
    [
        (0.9, 0.8, True, False),
        (0.8, 0.9, False, True),
        (0.9, 0.9, True, True),
        (math.nan, 0.1, False, False),
        (0.1, math.nan, True, True),
        (0.0, None, True, True),
    ],
)
def test_the_latest_of_the_best_is_kept(candidate: float, best: float | None, higher: bool, lower: bool) -> None:
    assert is_best(candidate, best, higher_is_better=True) is higher
    assert is_best(candidate, best, higher_is_better=False) is lower


@pytest.mark.parametrize(
    ("metrics", "higher", "lower"),
    [
        ([], 0, 0),
        ([0.5], 0, 0),
        ([0.5, 0.7, 0.7, 0.6], 2, 3),
        ([math.nan, 0.5, math.nan], 1, 1),
        ([math.nan, math.nan], 2, 2),
    ],
)
def test_equal_results_are_no_progress(metrics: list[float], higher: int, lower: int) -> None:
    assert epochs_without_progress(metrics, higher_is_better=True) == higher
    assert epochs_without_progress(metrics, higher_is_better=False) == lower
