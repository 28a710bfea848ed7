from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from compress.data.dataset import ArraySplit, Data
from compress.errors import UsageError
from compress.tasks.image_classification import ImageClassification
from compress.tasks.intervals import wilson

TASK = ImageClassification()
RANDOM = np.random.default_rng(0)


def data_of(targets: npt.NDArray[Any], labels: tuple[str, ...] | None = None) -> Data:
    split = ArraySplit(np.zeros((len(targets), 2)), targets)
    return Data(split, split, split, labels=labels)


def test_loss_is_the_mean_cross_entropy() -> None:
    logits, targets = RANDOM.normal(size=(30, 4)), RANDOM.integers(0, 4, 30)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = log_loss(targets, shares, labels=range(4))
    assert float(TASK.loss(torch.tensor(logits), torch.tensor(targets))) == pytest.approx(expected, abs=1e-12)


def test_accuracy_is_scikit_learns_and_comes_first() -> None:
    logits, targets = RANDOM.normal(size=(200, 12)), RANDOM.integers(0, 12, 200)
    found = TASK.metrics(logits, targets)
    assert list(found) == ["accuracy", "top5_accuracy"]
    assert found["accuracy"] == accuracy_score(targets, logits.argmax(axis=1))
    assert found["top5_accuracy"] == top_k_accuracy_score(targets, logits, k=5, labels=range(12))
    assert list(TASK.metrics(logits[:, :10], targets)) == ["accuracy"]
    assert TASK.interval(logits, targets) == wilson(round(found["accuracy"] * 200), 200)


def test_agreement_is_of_classes() -> None:
    logits = RANDOM.normal(size=(10, 3))
    assert TASK.agreement(logits * 2 + 1, logits) == 1
    other = logits.copy()
    other[:4] = np.eye(3)[(logits[:4].argmax(axis=1) + 1) % 3] * 9
    assert TASK.agreement(other, logits) == 0.6


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the network gives \(4, 3, 2\)"):
        TASK.metrics(np.zeros((4, 3, 2)), np.zeros(4, dtype=np.int64))


@pytest.mark.parametrize(
    ("targets", "labels", "message"),
    [
        (np.array([0.5, 1.5]), None, r"targets of the train split are float32 of shape \(1,\)"),
        (np.zeros((3, 4)), None, r"of shape \(4,\)"),
        (np.array([0, -1]), None, "has -1"),
        (np.array([0, 3]), ("a", "b", "c"), "has class 3, but there are 3 labels"),
        (np.array([1, 2, 4]), None, "no training example of class 0, 3 of 0 to 4"),
    ],
)
def test_targets_that_are_no_classes_are_faults(
    targets: npt.NDArray[Any], labels: tuple[str, ...] | None, message: str
) -> None:
    faults = TASK.check(data_of(targets, labels))
    assert faults
    with pytest.raises(UsageError, match=message):
        raise UsageError("\n".join(faults))


def test_classes_are_counted() -> None:
    assert TASK.check(data_of(np.array([0, 1, 2]))) == []
    assert TASK.output_size(data_of(np.array([0, 1, 2]))) == 3
    assert TASK.output_size(data_of(np.array([0, 1]), ("a", "b", "c"))) == 3
