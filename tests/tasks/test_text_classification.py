from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import f1_score, matthews_corrcoef

from compress.errors import UsageError
from compress.tasks.open import open_task
from compress.tasks.settings import read_task_settings
from compress.tasks.text_classification import TextClassification, classification_metrics
from tests.data.text_helpers import labelled
from tests.tasks.by_hand import f1_by_hand

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)


def answers(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    targets = RANDOM.integers(0, 2, count)
    return np.eye(2)[targets] + RANDOM.normal(0, 0.7, (count, 2)), targets


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_the_chosen_metric_comes_first_and_inside_its_interval(metric: str) -> None:
    task = open_task(read_task_settings({"text-classification": {"metric": metric}}))
    outputs, targets = answers()
    found = task.metrics(outputs, targets)
    low, high = task.interval(outputs, targets)
    assert next(iter(found)) == metric == task.metric
    assert low < found[metric] < high < low + 0.25
    chosen = outputs.argmax(1)
    assert found["accuracy"] == pytest.approx(np.mean(chosen == targets))
    assert found["f1"] == pytest.approx(f1_score(targets, chosen))
    assert found["matthews"] == pytest.approx(matthews_corrcoef(targets, chosen))


def test_examples_without_a_label_carry_no_loss() -> None:
    task = TextClassification()
    logits = torch.randn(4, 3, dtype=torch.float64)
    targets = torch.tensor([2, -1, 0, -1])
    expected = np.mean([-torch.log_softmax(logits[n], 0)[targets[n]].item() for n in (0, 2)])
    assert float(task.loss(logits, targets)) == pytest.approx(expected)
    learned = logits.clone().requires_grad_()
    loss = task.loss(learned, torch.full((4,), -1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0 and learned.grad is not None and (learned.grad == 0).all()


def test_texts_of_classes_fit(tmp_path: Path) -> None:
    data = labelled(tmp_path)
    task = TextClassification()
    assert task.check(data) == [] and task.output_size(data) == 2
    assert task.prepare(data) is data


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match="text-classification needs one logit a class"):
        TextClassification().metrics(np.zeros((3, 2, 2)), np.zeros(3))


def logits_of(classes: list[int], count: int) -> Array:
    return np.eye(count)[classes] * 3 - 1


def test_two_classes_are_judged_by_hand() -> None:
    """3 true positives, 1 false positive, 2 false negatives, 4 true negatives."""
    right = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    found = classification_metrics(logits_of([1, 1, 1, 0, 0, 1, 0, 0, 0, 0], 2), right)
    assert found == {
        "accuracy": 0.7,
        "f1": pytest.approx(6 / 9),
        "matthews": pytest.approx((3 * 4 - 1 * 2) / np.sqrt(4 * 5 * 5 * 6)),
    }
    assert list(found) == ["accuracy", "f1", "matthews"]


def test_more_classes_count_the_same_each() -> None:
    logits, right = RANDOM.normal(size=(60, 4)), RANDOM.choice(4, 60, p=[0.6, 0.2, 0.1, 0.1])
    found = logits.argmax(axis=1)
    each = [f1_by_hand(found == number, right == number) for number in range(4)]
    metrics = classification_metrics(logits, right)
    assert metrics["f1"] == pytest.approx(np.mean(each), rel=1e-12)
    # Gorodkin 2004: the correlation of class indicators, summed over classes.
    x, y = np.eye(4)[found], np.eye(4)[right]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    assert metrics["matthews"] == pytest.approx((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()), rel=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("always", [0, 1])
def test_one_answer_for_all_is_no_correlation(always: int) -> None:
    mixed = classification_metrics(logits_of([always] * 4, 2), np.array([0, 0, 0, 1]))
    assert mixed == {"accuracy": 0.25 if always else 0.75, "f1": 0.4 if always else 0.0, "matthews": 0.0}
    assert classification_metrics(logits_of([0] * 4, 2), np.zeros(4, dtype=np.int64))["f1"] == 0
