from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compress.data import prepared
from compress.data.augmentation import augment
from compress.data.dataset import ArraySplit, Data, Split, Subset, target_array
from compress.errors import UsageError

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
STEPS = ({"scale": {"factor": 0.5}},)
MOVES = ({"pad_crop": {"padding": 1, "fill": "zero"}}, {"flip": {"probability": 0.5}})


def images(count: int) -> ArraySplit:
    return ArraySplit(RANDOM.normal(size=(count, 6, 6)).astype(np.float32), np.arange(count) % 3)


def data_of(train: Split, **more: Any) -> Data:
    return Data(train, images(7), images(5), preprocessing=STEPS, fingerprint="f", **more)


class Counting:
    """A split that notes what was read of it."""

    def __init__(self, split: Split) -> None:
        self.split = split
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.split)

    def raw(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> list[Array]:
        self.read += [int(index) for index in indices]
        return self.split.raw(indices)

    def targets(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> Array:
        return self.split.targets(indices)


def test_a_batch_is_preprocessed_and_typed() -> None:
    split = images(10)
    batch = data_of(split).batch(split, [4, 2, 4])
    assert isinstance(split.inputs, np.ndarray)
    np.testing.assert_array_equal(batch.inputs[0], split.inputs[[4, 2, 4], None] * np.float32(0.5))
    assert [str(array.dtype) for array in (batch.inputs[0], batch.targets, batch.indices)] == [
        "float32",
        "int64",
        "int64",
    ]
    assert batch.targets.tolist() == [1, 2, 1]
    assert batch.indices.tolist() == [4, 2, 4]


def test_batches_give_every_example_once_in_order() -> None:
    data = data_of(images(10), augmentation=MOVES)
    found = list(data.batches(data.train, 4))
    assert [len(batch.targets) for batch in found] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([batch.indices for batch in found]), np.arange(10))
    np.testing.assert_array_equal(found[0].inputs[0], data.batch(data.train, range(4)).inputs[0])


def test_augmentation_is_asked_for_and_depends_on_the_example_alone() -> None:
    data = data_of(images(10), augmentation=MOVES)
    still = data.batch(data.train, range(10)).inputs[0]
    moved = data.batch(data.train, range(10), augment=(3, 4)).inputs[0]
    np.testing.assert_array_equal(moved, augment(still, MOVES, 3, 4, np.arange(10)))
    np.testing.assert_array_equal(data.batch(data.train, [7], augment=(3, 4)).inputs[0], moved[7:8])
    np.testing.assert_array_equal(data.batch(data.train, range(10)).inputs[0], still)


def test_targets_that_are_images_move_with_the_inputs() -> None:
    split = images(10)
    pair = ArraySplit(split.inputs, np.asarray(split.inputs)[:, None] * 0.5)
    data = Data(pair, pair, pair, preprocessing=STEPS, augmentation=MOVES)
    batch = data.batch(data.train, range(10), augment=(0, 0))
    np.testing.assert_array_equal(batch.inputs[0], batch.targets)


def test_targets_of_other_places_cannot_be_moved() -> None:
    pair = ArraySplit(images(4).inputs, np.zeros((4, 1, 3, 3)))
    data = Data(pair, pair, pair, preprocessing=STEPS, augmentation=MOVES)
    with pytest.raises(UsageError, match="cannot be moved with them"):
        data.batch(data.train, [0], augment=(0, 0))
    assert data.batch(data.train, [0]).targets.shape == (1, 1, 3, 3)


def test_preprocessed_examples_are_kept_when_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Counting(images(10))
    data = data_of(split)
    assert data.input_shapes == ((1, 6, 6),)
    split.read.clear()
    first = data.batch(split, [1, 2, 2]).inputs[0]
    first[:] = 0  # what the caller does to its batch stays its own
    assert not (data.batch(split, [2, 3, 1]).inputs[0] == 0).all(axis=(1, 2, 3)).any()
    assert split.read == [1, 2, 3]

    monkeypatch.setattr(prepared, "KEEP_BYTES", 0)
    split = Counting(images(10))
    large = data_of(split)
    for _ in range(2):
        large.batch(split, [1])
    assert split.read == [0, 1, 1]


def test_head_is_the_beginning_of_each_split() -> None:
    data = data_of(images(10))
    few = data.head(6)
    assert [len(few.train), len(few.validation), len(few.test)] == [6, 6, 5]
    assert few.fingerprint != data.fingerprint
    np.testing.assert_array_equal(few.batch(few.train, [5]).inputs[0], data.batch(data.train, [5]).inputs[0])
    assert data.head(100).train is data.train


def test_subset_reads_through() -> None:
    split = images(10)
    subset = Subset(split, np.array([9, 4]))
    np.testing.assert_array_equal(subset.raw([1])[0], split.raw([4])[0])
    assert subset.targets([0, 1]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "dtype", "shape"),
    [
        (np.array([1, 2], dtype=np.uint8), "int64", (2,)),
        (np.array([True, False]), "int64", (2,)),
        (np.array([1.5, 2.5]), "float32", (2, 1)),
        (np.zeros((2, 3), dtype=np.int32), "float32", (2, 3)),
        (np.zeros((2, 1, 4, 4)), "float32", (2, 1, 4, 4)),
    ],
)
def test_targets_are_classes_or_values(values: Array, dtype: str, shape: tuple[int, ...]) -> None:
    found = target_array(values)
    assert (str(found.dtype), found.shape) == (dtype, shape)


def test_faults_of_preprocessing_are_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Data(images(3), images(3), images(3), preprocessing=({"center_crop": {"size": 9}},))
    with pytest.raises(UsageError, match="data: preprocessing: center_crop: cannot cut"):
        wrong.batch(wrong.train, [0])
    with pytest.raises(UsageError, match="unknown step of preprocessing"):
        _ = Data(images(3), images(3), images(3), preprocessing=({"blur": {}},)).input_shapes
    mixed = ArraySplit([np.zeros((4, 4)), np.zeros((5, 5))], np.array([0, 1]))
    data = Data(mixed, mixed, mixed, preprocessing=STEPS)
    with pytest.raises(UsageError, match=r"\(1, 4, 4\) and \(1, 5, 5\)"):
        data.batch(mixed, [1])


def test_data_known_by_their_content_stay_so_when_they_are_fewer() -> None:
    data = data_of(images(10))
    assert data.head(3).fingerprint == "f-head-3"
    assert Data(data.train, data.validation, data.test).head(3).fingerprint == ""
