from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.dataset import Data, Split
from compress.data.open import SOURCES, open_data
from compress.data.settings import read_data_settings
from compress.data.source_settings import DataSource
from compress.errors import UsageError


def numbers(split: Split) -> list[int]:
    """What the examples of `archive` are made of: their own numbers."""
    return [int(example[0]) for example in split.raw(range(len(split)))]


def archive(folder: Path, name: str, start: int, count: int) -> None:
    numbers = np.arange(start, start + count)
    np.savez(folder / name, x=numbers[:, None].astype(np.float64), y=numbers % 4)


def opened(folder: Path, npz: dict[str, str], **more: Any) -> Data:
    return open_data(read_data_settings({"source": {"npz": npz}, **more}, folder))


def test_every_kind_of_source_has_an_opener() -> None:
    assert SOURCES.keys() == DataSource.model_fields.keys()


def test_missing_splits_are_cut_from_training_examples(tmp_path: Path) -> None:
    archive(tmp_path, "all.npz", 0, 200)
    data = opened(tmp_path, {"path": "all.npz"}, split={"validation": 0.15, "test": 0.2, "seed": 3})
    parts = [numbers(split) for split in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [130, 30, 40]
    assert sorted(number for part in parts for number in part) == list(range(200))
    for split, share in ((data.train, 0.65), (data.validation, 0.15), (data.test, 0.2)):
        counts = np.bincount(split.targets(range(len(split))))
        assert np.abs(counts - 50 * share).max() <= 1


def test_splits_of_the_source_are_kept_apart(tmp_path: Path) -> None:
    archive(tmp_path, "train.npz", 0, 100)
    archive(tmp_path, "test.npz", 100, 20)
    archive(tmp_path, "validation.npz", 120, 10)
    data = opened(tmp_path, {"train": "train.npz", "test": "test.npz"}, split={"validation": 0.1})
    assert numbers(data.test) == list(range(100, 120))
    assert (len(data.train), len(data.validation)) == (90, 10)
    assert sorted(numbers(data.train) + numbers(data.validation)) == list(range(100))
    data = opened(tmp_path, {"train": "train.npz", "validation": "validation.npz", "test": "test.npz"})
    assert (numbers(data.train), numbers(data.validation)) == (list(range(100)), list(range(120, 130)))
    data = opened(tmp_path, {"train": "train.npz", "validation": "validation.npz"}, split={"test": 0.3})
    assert (len(data.train), len(data.test), numbers(data.validation)) == (70, 30, list(range(120, 130)))


def test_limit_takes_a_stratified_part(tmp_path: Path) -> None:
    archive(tmp_path, "all.npz", 0, 200)
    data = opened(tmp_path, {"path": "all.npz"}, limit={"train": 40, "test": 1000})
    whole = opened(tmp_path, {"path": "all.npz"})
    assert np.bincount(data.train.targets(range(40))).tolist() == [10, 10, 10, 10]
    assert set(numbers(data.train)) < set(numbers(whole.train))
    assert numbers(data.test) == numbers(whole.test)


def test_labels_and_steps_are_passed_on(tmp_path: Path) -> None:
    archive(tmp_path, "all.npz", 0, 40)
    more: dict[str, Any] = {"labels": ["a", "b", "c", "d"], "preprocessing": [{"scale": 2}]}
    data = opened(tmp_path, {"path": "all.npz"}, **more)
    assert data.labels == ("a", "b", "c", "d")
    assert data.preprocessing == ({"scale": {"factor": 2.0}},)
    assert (
        data.fingerprint == read_data_settings({"source": {"npz": {"path": "all.npz"}}, **more}, tmp_path).fingerprint()
    )
    assert data.input_names == ("input",)


def test_images_are_marked_as_such_where_no_step_says_so() -> None:
    data = open_data(read_data_settings({"source": "digits"}))
    assert data.preprocessing == ({"image": {"layout": "hwc"}},)
    assert data.input_shapes == ((1, 8, 8),)


def test_the_last_data_stay_open_until_their_content_changes(tmp_path: Path) -> None:
    archive(tmp_path, "all.npz", 0, 40)
    first = opened(tmp_path, {"path": "all.npz"})
    assert opened(tmp_path, {"path": "all.npz"}) is first
    (tmp_path / "all.npz").unlink()
    archive(tmp_path, "all.npz", 1000, 40)
    assert min(numbers(opened(tmp_path, {"path": "all.npz"}).train)) >= 1000


def test_too_few_examples_are_refused(tmp_path: Path) -> None:
    archive(tmp_path, "few.npz", 0, 2)
    with pytest.raises(UsageError, match="2 training examples are too few to cut a"):
        opened(tmp_path, {"path": "few.npz"})
    archive(tmp_path, "none.npz", 0, 0)
    with pytest.raises(UsageError, match="the train split of source npz has no examples"):
        opened(tmp_path, {"path": "none.npz"})


def test_tables_in_folders_with_brackets_are_opened(tmp_path: Path) -> None:
    home = tmp_path / "[2024] x"
    home.mkdir()
    for name in ("a[1].csv", "b.csv"):
        (home / name).write_text("x,y\n" + "".join(f"{number},{number % 2}\n" for number in range(20)))
    for path, count in (("a[1].csv", 20), ("*.csv", 40)):
        table = {"path": path, "input": ["x"], "target": "y"}
        data = open_data(read_data_settings({"source": {"table": table}}, home))
        assert len(data.train) + len(data.validation) + len(data.test) == count
