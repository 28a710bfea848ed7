from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, matthews_corrcoef

from compress.errors import UsageError
from compress.tasks.open import open_task
from compress.tasks.settings import read_task_settings
from compress.tasks.text_classification import TextClassification
from tests.data.text_helpers import labelled

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
