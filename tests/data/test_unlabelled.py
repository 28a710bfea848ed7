from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.errors import UsageError
from tests.data.text_helpers import labelled, opened, table


def archive(folder: Path, targets: Any) -> dict[str, Any]:
    np.savez(folder / "all.npz", x=np.arange(200.0)[:, None], y=targets)
    return {"source": {"npz": {"path": str(folder / "all.npz")}}}


def test_a_share_of_the_training_examples_hides_its_classes(tmp_path: Path) -> None:
    source = archive(tmp_path, np.arange(200) % 4)
    whole = open_data(read_data_settings(source))
    data = open_data(read_data_settings({**source, "split": {"unlabelled": 0.75}}))
    assert whole.unlabelled is None
    assert data.unlabelled is not None
    assert len(data.unlabelled) == round(0.75 * len(whole.train))
    batch = data.batch(data.unlabelled, range(len(data.unlabelled)))
    assert (set(batch.targets.tolist()), str(batch.targets.dtype)) == ({-1}, "int64")

    def numbers(split: Any) -> set[int]:
        return {int(example[0]) for example in split.raw(range(len(split)))}

    assert numbers(data.train) | numbers(data.unlabelled) == numbers(whole.train)
    assert not numbers(data.train) & numbers(data.unlabelled)
    assert numbers(data.test) == numbers(whole.test)
    kept = np.bincount(data.train.targets(range(len(data.train))))
    assert kept.max() - kept.min() <= 1  # stratified
    assert data.fingerprint != whole.fingerprint
    few = data.head(5).unlabelled
    assert few is not None
    assert (len(few), few.targets([0]).tolist()) == (5, [-1])


def test_hidden_numbers_are_nan_in_their_shape(tmp_path: Path) -> None:
    source = archive(tmp_path, np.zeros((200, 3)))
    data = open_data(read_data_settings({**source, "split": {"unlabelled": 0.5}}))
    assert data.unlabelled is not None
    targets = data.unlabelled.targets([0, 1])
    assert (targets.shape, str(targets.dtype)) == ((2, 3), "float32")
    assert np.isnan(targets).all()


def test_files_of_inputs_alone(tmp_path: Path) -> None:
    known = table(tmp_path, [{"s": "the cat", "y": "ab"[number % 2]} for number in range(20)])
    more = table(tmp_path, [{"s": "a dog .", "other": number} for number in range(7)], "more.jsonl")
    source = {"table": {"train": known, "unlabelled": more, "input": "s", "target": "y"}}
    data = opened(tmp_path, source)
    assert data.unlabelled is not None
    assert data.unlabelled.raw([6]) == ["a dog ."]
    batch = data.batch(data.unlabelled, [3, 6])
    assert batch.targets.tolist() == [-1, -1]
    assert batch.inputs[0].shape == (2, 5)
    with pytest.raises(UsageError, match="the source has unlabelled examples of its own"):
        opened(tmp_path, source, split={"unlabelled": 0.5})
    (tmp_path / "more.jsonl").write_text('{"s": "the mat"}\n')
    assert opened(tmp_path, source).fingerprint != data.fingerprint


def test_texts_without_any_target(tmp_path: Path) -> None:
    source = {"table": {"path": table(tmp_path, [{"s": f"the cat {number}"} for number in range(20)]), "input": "s"}}
    data = opened(tmp_path, source)
    assert data.labels is None
    assert data.batch(data.train, [0, 1]).targets.tolist() == [-1, -1]
    assert [len(split) for split in (data.train, data.validation, data.test)] == [13, 3, 4]


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"split.unlabelled 0.1: 4 training examples are too few"):
        rows = table(tmp_path, [{"s": "the cat", "y": 0} for _ in range(6)])
        source = {"table": {"path": rows, "input": "s", "target": "y"}}
        opened(tmp_path, source, split={"unlabelled": 0.1, "validation": 0.2, "test": 0.2})
    assert labelled(tmp_path).unlabelled is None
