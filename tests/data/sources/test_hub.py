from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.errors import UsageError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and nothing written beside the test's own folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def made(count: int) -> Any:
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    images = [Image.new("RGB", (4, 3), (number, 0, 0)) for number in range(count)]
    return datasets.Dataset.from_dict({"img": images, "label": [n % 2 for n in range(count)]}, features=features)


def opened(path: Path, **more: Any) -> Any:
    hub = {"path": str(path), "input": "img", "target": "label", **more}
    return open_data(read_data_settings({"source": {"hub": hub}}))


def test_a_saved_data_set(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": made(40), "test": made(10)}).save_to_disk(tmp_path / "saved")
    data = opened(tmp_path / "saved")
    assert (data.labels, len(data.train), len(data.validation), len(data.test)) == (("no", "yes"), 34, 6, 10)
    batch = data.batch(data.test, [9, 2])
    assert batch.inputs[0].shape == (2, 3, 3, 4)
    assert batch.inputs[0][:, 0, 0, 0].tolist() == [9, 2]
    assert batch.targets.tolist() == [1, 0]


def test_a_selection_of_rows_reads_the_right_ones(tmp_path: Path) -> None:
    made(40).shuffle(seed=0).select(range(30)).save_to_disk(tmp_path / "saved")
    data = opened(tmp_path / "saved")
    values = data.batch(data.train, range(len(data.train)))
    np.testing.assert_array_equal(values.inputs[0][:, 0, 0, 0] % 2, values.targets)


def test_a_folder_of_data_files(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    made(20).to_parquet(tmp_path / "files" / "train-0.parquet")
    made(8).to_parquet(tmp_path / "files" / "test-0.parquet")
    data = opened(tmp_path / "files")
    assert (data.labels, len(data.test)) == (("no", "yes"), 8)
    assert data.batch(data.test, [5]).inputs[0][0, 0, 0, 0] == 5


def test_splits_can_be_named(tmp_path: Path) -> None:
    datasets.DatasetDict({"fit": made(30), "validation": made(8)}).save_to_disk(tmp_path / "saved")
    data = opened(tmp_path / "saved", splits={"train": "fit", "test": "validation"})
    assert (len(data.test), len(data.train)) == (8, 26)
    with pytest.raises(UsageError, match=r"which split to train on\? The data set has fit, validation"):
        opened(tmp_path / "saved")
    with pytest.raises(UsageError, match=r"splits\.train: no split 'fitt'; the data set has fit, validation"):
        opened(tmp_path / "saved", splits={"train": "fitt"})


def test_missing_columns_are_told_with_what_there_is(tmp_path: Path) -> None:
    made(4).save_to_disk(tmp_path / "saved")
    with pytest.raises(UsageError, match=r"no column 'image'; it has img \(Image\), label \(ClassLabel\)"):
        opened(tmp_path / "saved", input="image")


def test_a_folder_that_holds_no_data_set_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"cannot load the data set .*empty"):
        opened(tmp_path / "empty")


def test_a_name_is_loaded_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789" * 4
    asked: list[Any] = []

    def load_dataset(name: str, config: str | None, revision: str | None) -> Any:
        asked.append((name, config, revision))
        return datasets.DatasetDict({"train": made(20)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub = {"name": "some/set", "config": "small", "revision": commit, "input": "img", "target": "label"}
    data = open_data(read_data_settings({"source": {"hub": hub}}))
    assert asked == [("some/set", "small", commit)]
    assert data.batch(data.train, [0]).inputs[0].shape == (1, 3, 3, 4)
