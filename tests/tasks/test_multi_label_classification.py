from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import f1_score

from compress.data.dataset import ArraySplit, Data
from compress.errors import UsageError
from compress.tasks.multi_label_classification import MultiLabelClassification, multilabel_metrics
from tests.data.text_helpers import opened, table
from tests.tasks.by_hand import f1_by_hand

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
TASK = MultiLabelClassification()


def answers(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    targets = (RANDOM.random((count, 4)) < 0.3).astype(np.float32)
    return (targets * 2 - 1 + RANDOM.normal(0, 1.2, targets.shape)).astype(np.float32), targets


def test_the_loss_is_the_mean_binary_cross_entropy_of_what_is_known() -> None:
    outputs, targets = answers(5)
    shares = 1 / (1 + np.exp(-outputs.astype(np.float64)))
    each = -(targets * np.log(shares) + (1 - targets) * np.log(1 - shares))
    found = TASK.loss(torch.tensor(outputs), torch.tensor(targets))
    assert float(found) == pytest.approx(each.mean(), rel=1e-6)
    targets[1:3] = np.nan
    learned = torch.tensor(outputs, requires_grad=True)
    loss = TASK.loss(learned, torch.tensor(targets))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(each[[0, 3, 4]].mean(), rel=1e-6)
    assert learned.grad is not None and (learned.grad[1:3] == 0).all() and learned.grad.isfinite().all()


def test_metrics_are_scikit_learns_and_the_interval_holds_them() -> None:
    outputs, targets = answers()
    found = TASK.metrics(outputs, targets)
    low, high = TASK.interval(outputs, targets)
    assert next(iter(found)) == TASK.metric == "f1_micro"
    assert found["f1_micro"] == pytest.approx(f1_score(targets, outputs > 0, average="micro"))
    assert low < found["f1_micro"] < high < low + 0.2


def test_agreement_is_over_all_decisions() -> None:
    outputs, _ = answers(10)
    other = outputs.copy()
    other[3, 2] *= -1
    assert TASK.agreement(outputs * 2, outputs) == 1
    assert TASK.agreement(other, outputs) == pytest.approx(1 - 1 / 40)


def test_lists_of_names_become_labels(tmp_path: Path) -> None:
    rows = [{"s": "the cat sat", "y": [["a"], ["b", "c"], []][i % 3]} for i in range(60)]
    source = {"table": {"path": table(tmp_path, rows), "input": "s", "target": "y"}}
    data = opened(tmp_path, source, labels=["a", "b", "c"])
    assert TASK.check(data) == [] and TASK.output_size(data) == 3
    batch = data.batch(data.train, np.arange(4))
    assert batch.targets.shape == (4, 3) and set(np.unique(batch.targets)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("targets", "says"),
    [(np.arange(6) % 3, "one class of several"), (np.full((6, 2), 0.5, np.float32), "must be 0 or 1")],
)
def test_targets_that_are_no_label_sets_are_refused(targets: np.ndarray, says: str) -> None:
    split = ArraySplit(np.zeros((6, 2)), targets)
    assert says in TASK.check(Data(split, split, split))[0]


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(UsageError, match="one logit a label"):
        TASK.loss(torch.zeros(3, 2), torch.zeros(3, 4))
    with pytest.raises(UsageError, match=r"one logit a label, \(4, 2\); the network gives \(4, 3\)"):
        TASK.metrics(np.zeros((4, 3)), np.zeros((4, 2)))


def test_label_sets_are_judged_by_hand() -> None:
    logits = np.array([[2.0, -1.0, 0.0], [0.1, 3.0, -2.0], [-1.0, -1.0, -1.0], [1.0, 1.0, -0.1]])
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    assert multilabel_metrics(logits, targets) == {
        "f1_micro": pytest.approx(2 * 4 / (2 * 4 + 1 + 1)),
        "f1_macro": pytest.approx((1 + 2 / 3 + 0) / 3),
        "accuracy": 0.5,
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("labels", [1, 5])
def test_label_sets_are_judged_by_their_definition(labels: int) -> None:
    logits, targets = RANDOM.normal(size=(40, labels)), RANDOM.integers(0, 2, (40, labels)).astype(np.float32)
    given, right = logits > 0, targets == 1
    found = multilabel_metrics(logits, targets)
    assert found["f1_micro"] == pytest.approx(f1_by_hand(given, right), rel=1e-12)
    assert found["f1_macro"] == pytest.approx(np.mean([f1_by_hand(given[:, i], right[:, i]) for i in range(labels)]))
    assert found["accuracy"] == np.mean(
        [set(np.flatnonzero(g)) == set(np.flatnonzero(r)) for g, r in zip(given, right, strict=True)]
    )
