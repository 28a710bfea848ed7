from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from compress.data.columns import Wanted, open_columns
from compress.data.splits import Opened
from compress.errors import UsageError
from tests.data.text_helpers import opened, table


def targets_of(*targets: Any, labels: tuple[str, ...] | None = None) -> Opened:
    tables = {
        f"{name}": pa.table({"x": [1.0] * len(rows), "y": rows}) for name, rows in zip("ab", targets, strict=False)
    }
    return open_columns(tables, Wanted("x", "y", labels), dict.fromkeys(tables, ""))


def rows(found: Opened, split: str = "a") -> list[list[float]]:
    targets = found.splits[split].targets(range(len(found.splits[split])))
    assert targets.dtype == np.float32
    return [[float(value) for value in row] for row in targets]


def test_lists_of_names_are_one_column_a_class_over_all_splits() -> None:
    found = targets_of([["joy", "fear"], [], ["joy"]], [["anger"], ["fear"]])
    assert found.labels == ("anger", "fear", "joy")
    assert rows(found) == [[0, 1, 1], [0, 0, 0], [0, 0, 1]]
    assert rows(found, "b") == [[1, 0, 0], [0, 1, 0]]
    assert found.splits["a"].targets([2, 0]).tolist() == [[0, 0, 1], [0, 1, 1]]


def test_lists_of_numbers_are_classes_where_labels_name_them() -> None:
    found = targets_of([[2, 0], [1], []], labels=("p", "q", "r"))
    assert (found.labels, rows(found)) == (("p", "q", "r"), [[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    assert rows(targets_of([[0], [1], [1]], labels=("p", "q"))) == [[1, 0], [0, 1], [0, 1]]


def test_a_zero_or_one_for_each_class_is_taken_as_it_is() -> None:
    for labels in (None, ("p", "q", "r")):
        assert rows(targets_of([[1, 0, 1], [0, 0, 0]], labels=labels)) == [[1, 0, 1], [0, 0, 0]]
    assert rows(targets_of([[0.5, 2.0]], labels=("p", "q"))) == [[0.5, 2]]


@pytest.mark.parametrize(
    ("targets", "labels", "message"),
    [
        ([["joy"], ["fair"]], ("joy", "fear"), r"has the class 'fair', which `labels` does not name.*fear"),
        ([[0], [3]], ("p", "q"), "targets are the classes 0 to 3; `labels` names 0 to 1"),
        ([["joy"], None], None, "1 targets of the a split are empty"),
        ([["joy", None]], None, "1 targets of the a split are empty"),
        ([[0, None]], ("p", "q"), "1 targets of the a split are empty"),
    ],
)
def test_what_names_no_class_is_refused(targets: Any, labels: tuple[str, ...] | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        targets_of(targets, labels=labels)


def test_texts_of_several_classes(tmp_path: Path) -> None:
    lines = [{"s": "the cat", "y": ["good", "short"] if number % 2 else ["short"]} for number in range(20)]
    data = opened(tmp_path, {"table": {"path": table(tmp_path, lines), "input": "s", "target": "y"}})
    targets = data.batch(data.train, range(len(data.train))).targets
    assert data.labels == ("good", "short")
    assert (targets.shape, str(targets.dtype)) == ((len(data.train), 2), "float32")
    assert targets[:, 1].all()
    assert set(targets[:, 0].tolist()) == {0.0, 1.0}
    assert data.target_shape == (2,)
