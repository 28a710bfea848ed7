"""Paired intervals against exact enumeration, scipy and simulation."""

from __future__ import annotations

from itertools import product
from math import exp, lgamma, log

import numpy as np
import pytest
from scipy.stats import binomtest

from compress.tasks.intervals import wilson
from compress.tasks.paired import mcnemar, newcombe_paired, paired_bootstrap


def coverage(count: int, shares: tuple[float, float, float, float]) -> float:
    """Over all tables of `count` examples, how likely the interval holds the true difference: no simulation."""
    truth, covered = shares[1] - shares[2], 0.0
    logs = [log(share) for share in shares]
    for both, first, second in product(range(count + 1), repeat=3):
        neither = count - both - first - second
        if neither < 0:
            continue
        table = (both, first, second, neither)
        low, high = newcombe_paired(*table)
        if low <= truth <= high:
            ways = lgamma(count + 1) - sum(lgamma(one + 1) for one in table)
            covered += exp(ways + sum(one * each for one, each in zip(table, logs, strict=True)))
    return covered


@pytest.mark.parametrize(
    "shares", [(0.6, 0.1, 0.05, 0.25), (0.7, 0.12, 0.12, 0.06), (0.4, 0.3, 0.1, 0.2), (0.85, 0.1, 0.01, 0.04)]
)
def test_newcombes_interval_covers_as_it_says(shares: tuple[float, float, float, float]) -> None:
    assert 0.93 <= coverage(24, shares) <= 0.995


def test_newcombes_interval_is_that_of_the_paper() -> None:
    """Table II of Newcombe 1998 gives 0.0569 to 0.3404 for 36, 12, 2, 0."""
    assert newcombe_paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_pairs_make_the_interval_narrow_and_swap_with_the_models() -> None:
    low, high = newcombe_paired(340, 6, 4, 10)
    (first_low, first_high), (second_low, second_high) = wilson(346, 360), wilson(344, 360)
    apart = (first_high - first_low) + (second_high - second_low)
    assert high - low < 0.6 * apart
    assert newcombe_paired(340, 4, 6, 10) == pytest.approx((-high, -low))
    assert newcombe_paired(50, 0, 0, 0)[0] < 0 < newcombe_paired(50, 0, 0, 0)[1]
    with pytest.raises(ValueError, match="needs examples"):
        newcombe_paired(0, 0, 0, 0)


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (3, 3), (2, 11), (40, 22), (0, 9), (150, 200)])
def test_mcnemar_is_the_binomial_test_of_one_half(pair: tuple[int, int]) -> None:
    expected = binomtest(pair[0], sum(pair), 0.5).pvalue if sum(pair) else 1.0
    assert mcnemar(*pair) == pytest.approx(expected, rel=1e-9)


def test_the_paired_bootstrap_is_that_of_the_mean_difference() -> None:
    """For a mean the interval is the normal one: mean of the differences, 1.96 of their standard errors."""
    chance = np.random.default_rng(0)
    targets = chance.normal(size=400)
    first = targets + chance.normal(scale=0.5, size=400)
    second = first + chance.normal(0.05, 0.1, size=400)

    def mse(answers: np.ndarray, right: np.ndarray) -> float:
        return float(np.mean((answers - right) ** 2))

    each = (first - targets) ** 2 - (second - targets) ** 2
    half = 1.96 * each.std(ddof=1) / 20
    low, high = paired_bootstrap(mse, first, second, targets)
    assert low == pytest.approx(each.mean() - half, abs=0.25 * half)
    assert high == pytest.approx(each.mean() + half, abs=0.25 * half)
