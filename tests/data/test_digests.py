from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from compress.data import digests
from compress.data.digests import file_digest, folder_digest, recall, remember, text_digest

OLD = time.time() - 3600


def settle(path: Path) -> None:
    """Give a file a time of change that is long past, so that its digest may be remembered."""
    os.utime(path, (OLD, OLD))


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert file_digest(file) == hashlib.sha256(b"abc").hexdigest()


def test_contents_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    settle(file)
    first = file_digest(file)
    monkeypatch.setattr(digests, "_read_file", lambda path: pytest.fail("read again"))
    assert file_digest(file) == first


def test_a_young_file_is_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    moment = file.stat().st_mtime_ns
    first = file_digest(file)
    file.write_bytes(b"abd")
    os.utime(file, ns=(moment, moment))
    assert file_digest(file) != first


def test_changed_size_or_time_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    settle(file)
    first = file_digest(file)
    file.write_bytes(b"abd")
    assert file_digest(file) != first


def test_folder_digest_tells_names_and_contents_but_not_its_place(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "inner").mkdir(parents=True)
        (tmp_path / place / "inner" / "a").write_text("a")
        (tmp_path / place / ".hidden").write_text(place)
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")
    (tmp_path / "two" / "inner" / "a").rename(tmp_path / "two" / "inner" / "b")
    assert folder_digest(tmp_path / "one") != folder_digest(tmp_path / "two")
    (tmp_path / "two" / "inner" / "b").rename(tmp_path / "two" / "inner" / "a")
    (tmp_path / "two" / "inner" / "a").write_text("b")
    assert folder_digest(tmp_path / "one") != folder_digest(tmp_path / "two")


def test_memory_survives_nonsense_and_a_cache_that_cannot_be_written(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "digests.json").write_text("no json")
    assert recall("key") is None
    remember("key", [1])
    assert recall("key") == [1]
    (tmp_path / "file").touch()
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "file"))
    remember("key", [2])
    assert recall("key") is None


def test_memory_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_MOST_REMEMBERED", 2)
    for key in ("a", "b", "c"):
        remember(key, 1)
    assert (recall("a"), recall("b"), recall("c")) == (None, 1, 1)


def test_text_digest_ignores_the_order_of_keys() -> None:
    assert text_digest({"a": 1, "b": 2}) == text_digest({"b": 2, "a": 1}) != text_digest({"a": 1, "b": 3})
