from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from compress.tasks.intervals import bootstrap, bootstrap_mean, wilson


@pytest.mark.parametrize(("right", "count"), [(0, 10), (10, 10), (7, 10), (9173, 10_000), (350, 359)])
def test_wilson_is_scipys(right: int, count: int) -> None:
    theirs = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=400)
    half = 1.96 * values.std() / 20
    assert bootstrap_mean(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.04)


def test_bootstrap_is_a_function_of_its_seed() -> None:
    values = np.random.default_rng(0).normal(size=50)

    def mean(indices: npt.NDArray[np.int64]) -> float:
        return float(values[indices].mean())

    assert bootstrap(mean, 50) == bootstrap(mean, 50) != bootstrap(mean, 50, seed=1)
