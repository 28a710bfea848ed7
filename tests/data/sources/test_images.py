from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.data.open import open_data
from compress.data.settings import read_data_settings
from compress.data.source_settings import Images
from compress.data.sources.images import open_images
from compress.errors import UsageError


def paint(file: Path, value: int, size: tuple[int, int] = (6, 5), mode: str = "RGB") -> None:
    """One image of one colour, whose values say which it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value,) * len(mode)).save(file)


def test_class_folders_are_classes(tmp_path: Path) -> None:
    for number in range(4):
        paint(tmp_path / "dog" / f"{number}.png", 100 + number)
        paint(tmp_path / "cat" / "deeper" / f"{number}.PNG", number)
    (tmp_path / "dog" / "notes.txt").touch()
    (tmp_path / ".hidden").mkdir()
    opened = open_images(Images(path=tmp_path), None)
    assert opened.labels == ("cat", "dog")
    split = opened.splits["train"]
    found = {int(image[0, 0, 0]): int(split.targets([i])[0]) for i, image in enumerate(split.raw(range(8)))}
    assert found == {0: 0, 1: 0, 2: 0, 3: 0, 100: 1, 101: 1, 102: 1, 103: 1}


def test_split_folders_are_splits(tmp_path: Path) -> None:
    for value, split in enumerate(("train", "val", "test")):
        for number in range(3):
            paint(tmp_path / split / "a" / f"{number}.png", value)
            paint(tmp_path / split / "b" / f"{number}.png", value)
    opened = open_images(Images(path=tmp_path), None)
    assert sorted(opened.splits) == ["test", "train", "validation"]
    for value, name in enumerate(("train", "validation", "test")):
        assert {int(image[0, 0, 0]) for image in opened.splits[name].raw(range(6))} == {value}


def test_folders_of_any_name_are_splits_where_they_are_named(tmp_path: Path) -> None:
    for value, folder in enumerate(("train", "val", "more/held-out")):
        for number in range(3):
            paint(tmp_path / folder / "a" / f"{number}.png", value)
            paint(tmp_path / folder / "b" / f"{number}.png", value)
    named = {"train": "train", "test": "val"}
    opened = open_images(Images.model_validate(named, context={"base": tmp_path}), None)
    assert {name: int(split.raw([0])[0].max()) for name, split in opened.splits.items()} == {"train": 0, "test": 1}
    whole = read_data_settings({"source": {"images": named}}, tmp_path)
    data = open_data(whole)
    assert (len(data.test), len(data.train) + len(data.validation)) == (6, 6)
    other = read_data_settings({"source": {"images": {**named, "test": "more/held-out"}}}, tmp_path)
    assert other.fingerprint() != whole.fingerprint()
    assert int(open_data(other).test.raw([0])[0].max()) == 2


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "give either path"),
        ({"path": ".", "train": "."}, "give either path"),
        ({"path": ".", "test": "."}, "path holds all images"),
        ({"train": "gone"}, "no such file or folder"),
    ],
)
def test_a_folder_or_the_folders_of_splits_are_named(given: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        read_data_settings({"source": {"images": given}}, tmp_path)


def test_mixed_sizes_and_modes_become_one_shape(tmp_path: Path) -> None:
    for number in range(12):
        paint(tmp_path / "a" / f"{number}.png", 10, size=(5 + number, 20 - number), mode="L" if number % 2 else "RGBA")
        paint(tmp_path / "b" / f"{number}.jpg", 10, size=(30, 9 + number))
    steps = [{"color": "rgb"}, {"resize": {"size": 8, "keep": "shortest"}}, {"center_crop": 8}]
    data = open_data(read_data_settings({"source": {"images": {"path": str(tmp_path)}}, "preprocessing": steps}))
    batch = data.batch(data.train, range(len(data.train)))
    assert batch.inputs[0].shape[1:] == (3, 8, 8)
    np.testing.assert_allclose(batch.inputs[0], 10, atol=1.5)  # JPEG is not exact
    with pytest.raises(UsageError, match="must come out in one shape"):
        plain = open_data(read_data_settings({"source": {"images": {"path": str(tmp_path)}}}))
        plain.batch(plain.train, range(len(plain.train)))


def test_order_mixes_classes_and_does_not_depend_on_the_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        for number in range(30):
            for label in ("a", "b"):
                paint(tmp_path / place / label / f"{number}.png", number, size=(1, 1))
    one, two = (open_images(Images(path=tmp_path / place), None).splits["train"] for place in ("one", "two"))
    np.testing.assert_array_equal(one.targets(range(60)), two.targets(range(60)))
    assert 5 < one.targets(range(20)).sum() < 15
    fingerprints = {
        read_data_settings({"source": {"images": {"path": str(tmp_path / place)}}}).fingerprint()
        for place in ("one", "two")
    }
    assert len(fingerprints) == 1
    paint(tmp_path / "two" / "b" / "0.png", 77, size=(1, 1))
    assert read_data_settings({"source": {"images": {"path": str(tmp_path / "two")}}}).fingerprint() not in fingerprints


def test_labels_set_the_order(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "0.png", 0)
    paint(tmp_path / "b" / "0.png", 1)
    opened = open_images(Images(path=tmp_path), ("b", "a"))
    split = opened.splits["train"]
    assert {int(split.raw([i])[0][0, 0, 0]): int(split.targets([i])[0]) for i in range(2)} == {0: 1, 1: 0}
    with pytest.raises(UsageError, match="has the class 'a', which `labels` does not name"):
        open_images(Images(path=tmp_path), ("b", "c"))


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no class folders; it holds nothing"):
        open_images(Images(path=tmp_path), None)
    (tmp_path / "file.png").touch()
    with pytest.raises(UsageError, match=r"it holds file\.png"):
        open_images(Images(path=tmp_path), None)
    with pytest.raises(UsageError, match="is no folder"):
        open_images(Images(path=tmp_path / "file.png"), None)
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="no images in"):
        open_images(Images(path=tmp_path), None)
    paint(tmp_path / "train" / "a" / "0.png", 0)
    with pytest.raises(UsageError, match="beside it 'a', which is no split"):
        open_images(Images(path=tmp_path), None)
    (tmp_path / "a").rmdir()
    for name in ("val", "validation"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match="two validation folders: val and validation"):
        open_images(Images(path=tmp_path), None)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "0.png", 0)
    (tmp_path / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"a/0\.png is no image"):
        open_images(Images(path=tmp_path), None).splits["train"].raw([0])


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    """As they are no part of the fingerprint."""
    paint(tmp_path / "a" / "deeper" / "0.png", 0)
    paint(tmp_path / "a" / ".1.png", 1)
    paint(tmp_path / "a" / ".thumbnails" / "2.png", 2)
    split = open_images(Images(path=tmp_path), None).splits["train"]
    assert [int(image[0, 0, 0]) for image in split.raw(range(len(split)))] == [0]
