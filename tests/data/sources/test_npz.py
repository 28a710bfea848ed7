from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compress.data.dataset import ArraySplit
from compress.data.source_settings import Npz
from compress.data.sources import npz as module
from compress.data.sources.npz import open_npz, read_member
from compress.errors import UsageError

X = np.random.default_rng(0).normal(size=(10, 3, 4))
Y = np.random.default_rng(1).normal(size=(10, 1, 2, 2)).astype(np.float32)


def base_of(array: npt.NDArray[Any]) -> Any:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


@pytest.mark.parametrize("array", [X, np.asfortranarray(X), X.astype(">i2"), np.zeros((0, 3)), np.float32(Y)])
def test_stored_members_are_mapped_in_place(array: npt.NDArray[Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", first=Y, x=array)
    found = read_member(tmp_path / "d.npz", "x")
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert array.size == 0 or isinstance(found, np.memmap)
    assert array.size == 0 or not found.flags.writeable


def test_compressed_members_are_read_or_unpacked_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=X)
    np.testing.assert_array_equal(read_member(tmp_path / "d.npz", "x"), X)
    assert not list(cache.glob("arrays/*"))
    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    for _ in range(2):
        found = read_member(tmp_path / "d.npz", "x")
        np.testing.assert_array_equal(found, X)
        assert isinstance(base_of(found), np.memmap)
    assert len(list(cache.glob("arrays/*"))) == 1


def test_examples_and_targets_of_any_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    split = open_npz(Npz(path=(tmp_path / "d.npz",)), None).splits["train"]
    np.testing.assert_array_equal(split.raw([7])[0], X[7])
    np.testing.assert_array_equal(split.targets([7, 1]), Y[[7, 1]])


def test_splits_in_one_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=X, y_train=Y, x_val=X[:4], y_val=Y[:4], x_test=X[:3], y_test=Y[:3])
    opened = open_npz(Npz(path=(tmp_path / "d.npz",), input="x_{split}", target="y_{split}"), None)
    assert {name: len(split) for name, split in opened.splits.items()} == {"train": 10, "validation": 4, "test": 3}


def test_splits_in_several_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X[:6], y=Y[:6])
    np.savez(tmp_path / "b.npz", x=X[6:], y=Y[6:])
    settings = Npz(train=(tmp_path / "a.npz", tmp_path / "b.npz"), test=(tmp_path / "b.npz",))
    splits = open_npz(settings, None).splits
    assert isinstance(splits["train"], ArraySplit)
    np.testing.assert_array_equal(splits["train"].inputs, X)
    assert len(splits["test"]) == 4


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ({"x": X, "y": Y}, {"input": "images"}, "has no array 'images'; it has x, y"),
        (
            {"x": X, "y": Y[:5]},
            {},
            r"'x' of shape \(10, 3, 4\) and 'y' of shape \(5, 1, 2, 2\) must have the same number",
        ),
        ({"x": np.array([{}, 1], dtype=object), "y": Y}, {}, "holds Python objects"),
        ({"x_train": X, "y": Y}, {"input": "x_{split}", "target": "y_{split}"}, "has no array 'y_train'"),
    ],
)
def test_what_cannot_be_read_is_refused(
    arrays: dict[str, Any], settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UsageError, match=message):
        open_npz(Npz.model_validate({"path": str(tmp_path / "d.npz"), **settings}), None)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"d\.npz, array 'x', cannot be read"):
        open_npz(Npz(path=(tmp_path / "d.npz",)), None)
    with pytest.raises(UsageError, match=r"d\.npz cannot be read"):
        open_npz(Npz(path=(tmp_path / "d.npz",), input="x_{split}", target="y_{split}"), None)
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    np.savez(tmp_path / "b.npz", x=X[:, :2], y=Y)
    with pytest.raises(UsageError, match="must have one shape of example"):
        open_npz(Npz(train=(tmp_path / "a.npz", tmp_path / "b.npz")), None)


def test_class_names_as_targets_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=np.array(["cat", "dog"] * 5))
    split = open_npz(Npz(path=(tmp_path / "d.npz",)), ("cat", "dog")).splits["train"]
    with pytest.raises(UsageError, match=r"targets must be numbers .*the names as `labels`"):
        split.targets(range(10))
