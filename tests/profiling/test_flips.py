from __future__ import annotations

import numpy as np
import pytest

from compress.profiling.flips import MOST_BYTES, against, flips
from compress.tasks.image_classification import ImageClassification
from compress.tasks.regression import Regression


def logits(classes: list[int]) -> np.ndarray:
    """Answers whose largest logit is that of each class."""
    return np.eye(3, dtype=np.float32)[classes]


RIGHT = np.array([0, 1, 2, 0, 1, 2, 0, 1])
BEFORE = [0, 1, 2, 1, 0, 0, 0, 1]
AFTER = [0, 2, 2, 0, 0, 1, 1, 1]


def test_flips_are_told_apart() -> None:
    moved = flips(logits(AFTER), logits(BEFORE), RIGHT)
    assert (moved.became_wrong, moved.became_right, moved.stayed_wrong) == ((1, 6), (3,), (5,))
    assert moved.classes == {1: (1, 1, 2), 3: (0, 1, 0), 5: (2, 0, 1), 6: (0, 0, 1)}
    told = moved.as_json()
    assert told["negative_flip_rate"] == 2 / 8
    low, high = told["negative_flip_rate_ci95"]
    assert low < 0.25 < high


def test_flips_are_those_of_a_loop_over_examples() -> None:
    chance = np.random.default_rng(3)
    before, after = (chance.normal(size=(500, 10)) for _ in range(2))
    right = chance.integers(0, 10, 500)
    moved = flips(after, before, right)
    for index in range(500):
        was, now = before[index].argmax() == right[index], after[index].argmax() == right[index]
        assert (index in moved.became_wrong) == (was and not now)
        assert (index in moved.became_right) == (now and not was)
    accuracy = [(answers.argmax(axis=1) == right).mean() for answers in (before, after)]
    assert accuracy[0] - accuracy[1] == pytest.approx((len(moved.became_wrong) - len(moved.became_right)) / 500)


def test_answers_to_other_examples_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        flips(logits(AFTER), logits(BEFORE[:4]), RIGHT)


def test_a_loss_is_paired_in_the_direction_of_the_metric() -> None:
    found = against(ImageClassification(), logits(AFTER), logits(BEFORE), RIGHT)
    low, high = found["accuracy_drop_ci95"]
    assert low < 1 / 8 < high and found["flips"]["became_wrong"] == [1, 6]

    values = np.linspace(0, 1, 40)[:, None]
    task = Regression()
    worse = against(task, values + 0.3, values + 0.1, values)
    low, high = worse[f"{task.metric}_drop_ci95"]
    lost = task.metrics(values + 0.3, values)[task.metric] - task.metrics(values + 0.1, values)[task.metric]
    assert lost > 0 and low - 1e-9 <= lost <= high + 1e-9
    assert "flips" not in worse


class Recall(ImageClassification):
    """Classes that are judged by another share than the accuracy."""

    metric = "recall"

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return {"recall": float((outputs.argmax(axis=1) == targets)[targets == 1].mean())}


def test_another_metric_of_classes_is_drawn_anew() -> None:
    chance = np.random.default_rng(0)
    right = chance.integers(0, 3, 90)
    found = against(Recall(), logits((2 - right).tolist()), logits(right.tolist()), right)
    assert found["recall_drop_ci95"] == [0.0, 0.0] and len(found["flips"]["became_wrong"]) == int((right != 1).sum())


def test_large_answers_are_not_drawn_anew() -> None:
    dense = np.zeros((8, MOST_BYTES // 32))
    assert against(Regression(), dense, dense, dense) == {}
