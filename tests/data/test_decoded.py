from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from compress.data import decoded
from compress.data.dataset import ArraySplit
from compress.data.decoded import Decoded
from compress.errors import UsageError

RANDOM = np.random.default_rng(0)
SAME = ArraySplit(RANDOM.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8), np.arange(40))
MIXED = ArraySplit(
    [RANDOM.integers(0, 256, (1 + i % 3, 2 + i % 5)).astype(np.uint16 if i % 2 else np.uint8) for i in range(40)],
    np.arange(40),
)


@pytest.fixture(autouse=True)
def small_splits_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "FEWEST", 1)


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("decoded/*"))


@pytest.mark.parametrize("split", [SAME, MIXED], ids=["same", "mixed"])
def test_examples_come_back_from_the_file(split: ArraySplit, cache: Path) -> None:
    first = Decoded(split, "key")
    first.raw(range(5))
    assert not files(cache)  # a rehearsal's few batches make no file
    first.raw(range(10))
    assert len(files(cache)) == 1

    class Unreadable(ArraySplit):
        def raw(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> list[npt.NDArray[Any]]:
            raise AssertionError("decoded again")

    again = Decoded(Unreadable(split.inputs, split.outputs), "key")
    order = RANDOM.permutation(40)
    for ours, stored in zip(again.raw(order), split.raw(order), strict=True):
        assert ours.dtype == stored.dtype
        np.testing.assert_array_equal(ours, stored)
    assert again.targets([3]).tolist() == [3]


def test_threads_decode_everything_once(cache: Path) -> None:
    decodings: list[int] = []

    class Slow(ArraySplit):
        def raw(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> list[npt.NDArray[Any]]:
            if isinstance(indices, range):
                decodings.append(len(indices))
                time.sleep(0.05)
            return super().raw(indices)

    split = Decoded(Slow(SAME.inputs, SAME.outputs), "key")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda start: split.raw(np.arange(start, start + 10)), range(0, 40, 10)))
    assert decodings == [40]
    assert isinstance(SAME.inputs, np.ndarray)
    np.testing.assert_array_equal(np.concatenate(found), SAME.inputs)
    assert len(files(cache)) == 1


def test_other_content_has_another_file(cache: Path) -> None:
    Decoded(SAME, "one").raw(range(40))
    Decoded(SAME, "two").raw(range(40))
    assert len(files(cache)) == 2


def test_a_damaged_file_is_not_read(cache: Path) -> None:
    Decoded(SAME, "key").raw(range(40))
    (files(cache)[0] / "pixels.bin").write_bytes(b"short")
    np.testing.assert_array_equal(Decoded(SAME, "key").raw([2])[0], SAME.raw([2])[0])


def test_too_much_or_nowhere_to_write_leaves_decoding_as_it_was(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "MOST_BYTES", 100)
    np.testing.assert_array_equal(Decoded(SAME, "key").raw(range(40))[9], SAME.raw([9])[0])
    assert not files(cache)
    monkeypatch.undo()
    monkeypatch.setattr(decoded, "FEWEST", 1)
    (tmp_path / "file").touch()
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "file"))
    np.testing.assert_array_equal(Decoded(SAME, "key").raw(range(40))[9], SAME.raw([9])[0])


def test_a_failure_leaves_no_draft(cache: Path) -> None:
    class Broken(ArraySplit):
        def raw(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> list[npt.NDArray[Any]]:
            if 20 in indices and isinstance(indices, range):
                raise UsageError("row 20 is no image")
            return super().raw(indices)

    with pytest.raises(UsageError, match="row 20"):
        Decoded(Broken(SAME.inputs, SAME.outputs), "key").raw(np.arange(19))
    assert not files(cache)
