from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from compress.data.dataset import ArraySplit, Data
from compress.errors import UsageError
from compress.tasks.regression import Regression, correlations

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
MSE, L1 = Regression("mse"), Regression("l1")


def test_losses_are_the_means_over_all_values() -> None:
    outputs, targets = RANDOM.normal(size=(5, 2, 3)), RANDOM.normal(size=(5, 2, 3))
    for task, expected in ((MSE, ((outputs - targets) ** 2).mean()), (L1, np.abs(outputs - targets).mean())):
        assert float(task.loss(torch.tensor(outputs), torch.tensor(targets))) == pytest.approx(expected)


def test_values_that_are_not_known_carry_no_loss() -> None:
    outputs, targets = RANDOM.normal(size=(5, 2)), RANDOM.normal(size=(5, 2))
    known = targets.copy()
    targets[[1, 3]] = np.nan
    for task, power in ((MSE, 2), (L1, 1)):
        learned = torch.tensor(outputs, requires_grad=True)
        loss = task.loss(learned, torch.tensor(targets))
        loss.backward()  # type: ignore[no-untyped-call]
        expected = (np.abs(outputs - known)[[0, 2, 4]] ** power).mean()
        assert float(loss.detach()) == pytest.approx(expected)
        assert learned.grad is not None and (learned.grad[[1, 3]] == 0).all() and (learned.grad[0] != 0).all()
        nothing = task.loss(torch.tensor(outputs), torch.full((5, 2), torch.nan))
        assert float(nothing) == 0


def test_single_values_have_correlations_beside() -> None:
    targets = RANDOM.normal(size=(40, 1))
    outputs = targets * 3 + RANDOM.normal(size=(40, 1))
    found = MSE.metrics(outputs, targets)
    assert list(found) == ["mse", "mae", "r2", "pearson", "spearman"]
    assert found["pearson"] == pytest.approx(np.corrcoef(outputs[:, 0], targets[:, 0])[0, 1])


def test_metrics_are_scikit_learns_primary_first() -> None:
    targets = RANDOM.normal(size=(50, 3))
    outputs = targets + RANDOM.normal(size=(50, 3)) * 0.3
    found = L1.metrics(outputs, targets)
    assert list(found) == ["mae", "mse", "r2"]
    assert (L1.metric, MSE.metric, next(iter(MSE.metrics(outputs, targets)))) == ("mae", "mse", "mse")
    assert found["mae"] == pytest.approx(mean_absolute_error(targets, outputs))
    assert found["mse"] == pytest.approx(mean_squared_error(targets, outputs))
    assert found["r2"] == pytest.approx(r2_score(targets, outputs, multioutput="variance_weighted"))
    assert not MSE.higher_is_better


def test_constant_targets_have_no_variance_to_explain() -> None:
    assert MSE.metrics(np.ones((4, 1)), np.ones((4, 1)))["r2"] == 1
    assert MSE.metrics(np.zeros((4, 1)), np.ones((4, 1)))["r2"] == 0


def test_interval_holds_the_metric() -> None:
    targets = RANDOM.normal(size=(200, 2))
    outputs = targets + RANDOM.normal(size=(200, 2))
    for task in (MSE, L1):
        low, high = task.interval(outputs, targets)
        assert low < task.metrics(outputs, targets)[task.metric] < high
        assert high - low < 0.5


def test_agreement_is_within_one_percent_of_the_reference_range() -> None:
    reference = np.linspace(0, 100, 11)[:, None]
    assert MSE.agreement(reference + 0.99, reference) == 1
    assert MSE.agreement(reference + np.array([1.01] * 4 + [0.0] * 7)[:, None], reference) == pytest.approx(7 / 11)


def test_whole_numbers_are_learned_as_one_value() -> None:
    """Class-like targets, N, meet outputs of N x 1 without being broadcast to N x N."""
    targets = np.array([1, 2, 3])
    outputs = np.array([[1.0], [2.0], [4.0]])
    assert MSE.metrics(outputs, targets)["mse"] == pytest.approx(1 / 3)
    assert float(MSE.loss(torch.tensor(outputs), torch.tensor(targets))) == pytest.approx(1 / 3)


@pytest.mark.parametrize("shape", [(3, 2), (3, 1), (1, 4), (4, 3)])
def test_nothing_is_broadcast(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="outputs of the targets' shape"):
        MSE.metrics(np.zeros(shape), np.zeros((3, 4)))
    with pytest.raises(UsageError, match="outputs of the targets' shape"):
        L1.loss(torch.zeros(shape), torch.zeros(3, 4))


def test_targets_are_checked() -> None:
    good = ArraySplit(np.zeros((4, 2)), np.zeros((4, 1, 3, 3)))
    other = ArraySplit(np.zeros((4, 2)), np.full((4, 2), np.nan))
    assert MSE.check(Data(good, good, good)) == []
    assert MSE.output_size(Data(good, good, good)) == (1, 3, 3)
    faults = MSE.check(Data(good, other, good))
    assert faults == [
        "targets of validation have shape (2,), those of train (1, 3, 3)",
        "targets of the validation split hold values that are not finite",
    ]
    numbers = ArraySplit(np.zeros((4, 2)), np.arange(4))
    assert MSE.output_size(Data(numbers, numbers, numbers)) == (1,)


def correlation_by_hand(left: Array, right: Array) -> float:
    left, right = left - left.mean(), right - right.mean()
    return float((left * right).sum() / np.sqrt((left**2).sum() * (right**2).sum()))


def ranks(values: Array) -> Array:
    """From 1 on; equal values share the mean of their ranks."""
    return np.array([np.sum(values < value) + (np.sum(values == value) + 1) / 2 for value in values])


def test_correlations_are_their_definitions() -> None:
    targets = RANDOM.integers(0, 6, 50).astype(np.float32)
    values = (np.exp(targets) + RANDOM.normal(size=50) * 20)[:, None].astype(np.float32)
    wide = values[:, 0].astype(np.float64)
    assert correlations(values, targets) == {
        "pearson": pytest.approx(correlation_by_hand(wide, targets.astype(np.float64)), rel=1e-12),
        "spearman": pytest.approx(correlation_by_hand(ranks(wide), ranks(targets)), rel=1e-12),
    }


@pytest.mark.filterwarnings("error")
def test_a_constant_is_correlated_with_nothing() -> None:
    constant, other = np.full(4, 2.5), np.array([1.0, 2.0, 3.0, 4.0])
    assert correlations(constant, other) == {"pearson": 0, "spearman": 0}
    assert correlations(other, constant) == {"pearson": 0, "spearman": 0}
    with pytest.raises(UsageError, match=r"one value an example, \(4,\); the network gives \(4, 2\)"):
        correlations(np.zeros((4, 2)), np.zeros(4))
