from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest

from compress.store import Record, Store, folder_sha256


def _record(key: str, digest: str, **inputs: str) -> Record:
    return Record("step", "train", key, inputs, digest, {"value": 1.5}, 0.1)


def _commit(store: Store, key: str, text: str = "weights") -> Record:
    with store.scratch() as out:
        (out / "sub").mkdir()
        (out / "sub" / "file.txt").write_text(text)
        record = _record(key, store.put(out))
    store.record(record)
    return record


def test_a_folder_is_found_again_by_its_key_with_its_content(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    record = _commit(store, "k1")
    found = Store(tmp_path / "store").find("k1")
    assert found == record
    assert (store.artifact(record.digest) / "sub" / "file.txt").read_text() == "weights"


def test_folder_digest_is_that_of_the_sorted_list_of_files_and_hashes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_text("x")
    (tmp_path / "a.txt").write_text("a")
    files = [("a.txt", "a"), ("b/x.txt", "x")]
    lines = [f"{name} {hashlib.sha256(text.encode()).hexdigest()}\n" for name, text in files]
    assert folder_sha256(tmp_path) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_store_that_was_not_written_into_does_not_exist(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.find("k") is None
    assert store.unused() == []
    assert not store.root.exists()


def test_a_damaged_artifact_is_no_result(tmp_path: Path) -> None:
    record = _commit(Store(tmp_path), "k1")
    (Store(tmp_path).artifact(record.digest) / "sub" / "file.txt").write_text("other")
    assert Store(tmp_path).find("k1") is None
    again = _commit(Store(tmp_path), "k1")
    assert again.digest == record.digest
    assert Store(tmp_path).find("k1") == record


def test_scratch_leaves_nothing_behind_when_the_work_fails(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.scratch() as out:
        (out / "half").write_text("half")
        raise RuntimeError
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_damaged_record_is_no_result(tmp_path: Path) -> None:
    store = Store(tmp_path)
    _commit(store, "k1")
    (tmp_path / "records" / "k1.json").write_text('{"name": "st')
    assert store.find("k1") is None


def test_a_second_run_waits_for_the_first(tmp_path: Path) -> None:
    events: list[str] = []
    first_has_it = threading.Event()

    def first() -> None:
        with Store(tmp_path).lock("k", lambda: events.append("first waits")):
            first_has_it.set()
            time.sleep(0.5)
            events.append("first done")

    thread = threading.Thread(target=first)
    thread.start()
    first_has_it.wait()
    with Store(tmp_path).lock("k", lambda: events.append("second waits")):
        events.append("second has it")
    thread.join()
    assert events == ["second waits", "first done", "second has it"]


def test_garbage_is_what_no_run_names(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    kept, dropped = _commit(store, "kept", "a"), _commit(store, "dropped", "b")
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    store.set_root("one", run, ["kept"], finished=True)
    unused = store.unused()
    assert {item.path.name for item in unused} == {"dropped.json", dropped.digest}
    assert store.free(unused) == sum(item.size_bytes for item in unused) > 0
    assert Store(store.root).find("kept") == kept
    assert Store(store.root).find("dropped") is None


def test_a_run_whose_folder_is_gone_names_nothing_unless_it_is_unfinished(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    _commit(store, "k")
    store.set_root("one", tmp_path / "runs" / "one", ["k"], finished=False)
    assert store.unused() == []
    store.set_root("one", tmp_path / "runs" / "one", ["k"], finished=True)
    assert len(store.unused()) == 2


def test_recording_drops_the_checkpoints(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.progress("k1").mkdir(parents=True)
    (store.progress("k1") / "checkpoint").write_text("x")
    _commit(store, "k1")
    assert not store.progress("k1").exists()
