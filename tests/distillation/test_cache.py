from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.distillation.cache import SHARD, AnswerCache, Arrays
from compress.errors import UsageError

EXAMPLES = 2 * SHARD + 300
IDENTITY = {"teacher": "a", "data": "b"}
SHARD_BYTES = SHARD * 3 * 2 + 128
"""Three float16 numbers an example, behind the header of a `.npy` file."""


def compute(view: int, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Arrays:
    return {"logits": (indices[:, None] % 100 + np.array([0.0, 0.25, 0.5]) + view).astype(np.float16)}


class Counted:
    """Computes answers and remembers of which shards."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, view: int, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Arrays:
        self.asked.append((view, int(indices[0]) // SHARD))
        return compute(view, indices)


def open_cache(folder: Path, asked: Any = compute, identity: Any = IDENTITY, max_bytes: int = 2**30) -> AnswerCache:
    return AnswerCache(folder, identity, EXAMPLES, asked, max_bytes)


def files(folder: Path) -> dict[str, str]:
    """The digest of every file below the folder, by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def shard_file(cache: AnswerCache, view: int, shard: int, kind: str = "logits.npy") -> Path:
    return cache.folder / f"view-{view:03d}" / f"shard-{shard:05d}.{kind}"


def test_answers_come_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    counted = Counted()
    cache = open_cache(tmp_path, counted)
    steps: list[int] = []
    cache.prepare(1, advance=steps.append)
    assert (sum(steps), cache.shards) == (EXAMPLES, 3)
    indices = np.array([EXAMPLES - 1, 0, SHARD, SHARD - 1, 7, 2 * SHARD])
    np.testing.assert_array_equal(cache.answers(indices, 1)["logits"], compute(1, indices)["logits"])
    again = open_cache(tmp_path, counted)
    assert again.has(1)
    assert not again.has(0)
    np.testing.assert_array_equal(again.answers(indices, 1)["logits"], compute(1, indices)["logits"])
    assert counted.asked == [(1, 0), (1, 1), (1, 2)]


def test_processes_share_the_shards_out(tmp_path: Path) -> None:
    first, second = Counted(), Counted()
    open_cache(tmp_path, first).prepare(0, range(0, 3, 2))
    open_cache(tmp_path, second).prepare(0, range(1, 3, 2))
    assert (first.asked, second.asked) == ([(0, 0), (0, 2)], [(0, 1)])
    assert open_cache(tmp_path).has(0)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("logits.npy", flip_a_byte),
        ("logits.npy", truncate),
        ("logits.npy", Path.unlink),
        ("json", flip_a_byte),
        ("json", truncate),
        ("json", Path.unlink),
        ("json", lambda path: path.write_text("{}")),
        ("json", lambda path: path.write_text("[]")),
    ],
)
def test_a_damaged_shard_alone_is_made_anew_with_the_same_bytes(tmp_path: Path, kind: str, damage: Any) -> None:
    cache = open_cache(tmp_path)
    cache.prepare(0)
    whole = files(tmp_path)
    damage(shard_file(cache, 0, 1, kind))
    counted = Counted()
    again = open_cache(tmp_path, counted)
    assert not again.has(0)
    again.prepare(0)
    assert counted.asked == [(0, 1)]
    assert files(tmp_path) == whole


def test_a_shard_that_is_lost_after_it_was_prepared_is_made_again(tmp_path: Path) -> None:
    writer, reader = open_cache(tmp_path), open_cache(tmp_path)
    writer.prepare(0)
    truncate(shard_file(writer, 0, 2))
    last = np.array([EXAMPLES - 1])
    np.testing.assert_array_equal(reader.answers(last, 0)["logits"], compute(0, last)["logits"])
    assert open_cache(tmp_path).has(0)


def test_every_part_of_the_identity_is_in_the_key(tmp_path: Path) -> None:
    keys = {
        open_cache(tmp_path, identity=identity).key
        for identity in (IDENTITY, {**IDENTITY, "teacher": "c"}, {**IDENTITY, "data": "c"}, {**IDENTITY, "more": 1})
    }
    assert len(keys) == 4
    assert open_cache(tmp_path, identity=dict(reversed(IDENTITY.items()))).key in keys


def used(folder: Path, name: str, bound: int) -> AnswerCache:
    """A cache of that name with one view of three shards, written or read again now."""
    time.sleep(0.02)  # file systems tell times in steps
    cache = open_cache(folder, identity={"teacher": name}, max_bytes=bound)
    cache.prepare(0)
    return cache


def test_the_longest_unused_cache_makes_room(tmp_path: Path) -> None:
    one = used(tmp_path, "size", 2**30)
    size = sum(path.stat().st_size for path in one.folder.rglob("*") if path.is_file())
    bound = 3 * size + 100
    caches = [one, used(tmp_path, "second", bound), used(tmp_path, "third", bound)]
    assert all(cache.folder.exists() for cache in caches)
    used(tmp_path, "size", bound)  # only read
    fourth = used(tmp_path, "fourth", bound)
    assert [cache.folder.exists() for cache in (*caches, fourth)] == [True, False, True, True]
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert total <= bound


def test_a_cache_over_the_bound_alone_is_refused_and_removes_no_other(tmp_path: Path) -> None:
    other = used(tmp_path, "other", 2**30)
    with pytest.raises(UsageError, match=r"take more than 5,000 bytes: raise `cache.max_bytes`, lower `cache.views`"):
        used(tmp_path, "large", 5_000)
    assert other.has(0)


def test_a_damaged_shard_does_not_count_against_the_bound(tmp_path: Path) -> None:
    cache = used(tmp_path, "a", 2**30)
    size = sum(path.stat().st_size for path in cache.folder.rglob("*") if path.is_file())
    flip_a_byte(shard_file(cache, 0, 0))
    assert used(tmp_path, "a", size).has(0)


SCRIPT = """
import sys, time
from pathlib import Path
import numpy as np
from compress.distillation import cache as module
from compress.distillation.cache import AnswerCache
sys.path.insert(0, sys.argv[2])
from tests.distillation.test_cache import EXAMPLES, IDENTITY, compute

folder, pause = Path(sys.argv[1]), float(sys.argv[3])
def slow(file, content):
    draft = file.with_name(f"{file.name}.draft")
    with draft.open("wb") as stream:
        stream.write(content[: len(content) // 2])
        stream.flush()
        print(file.name, flush=True)
        time.sleep(pause)
        stream.write(content[len(content) // 2 :])
    time.sleep(pause)
    draft.replace(file)
if pause:
    module._put = slow
cache = AnswerCache(folder, IDENTITY, EXAMPLES, compute, 2**30)
for view in range(2):
    cache.prepare(view)
indices = np.random.default_rng(0).permutation(EXAMPLES)
for view in range(2):
    assert (cache.answers(indices, view)["logits"] == compute(view, indices)["logits"]).all()
"""


def command(folder: Path, script: Path, pause: float) -> list[str]:
    script.write_text(SCRIPT)
    return [sys.executable, str(script), str(folder), str(Path(__file__).parents[2]), str(pause)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("file", ["shard-00000.logits.npy", "shard-00001.json", "shard-00002.logits.npy"])
def test_a_killed_process_run_again_leaves_the_files_of_an_undisturbed_one(tmp_path: Path, file: str) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = open_cache(whole)
    for view in range(2):
        undisturbed.prepare(view)
    script = tmp_path / "script.py"
    process = subprocess.Popen(command(killed, script, 0.2), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == file:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert any(path.suffix == ".draft" for path in killed.rglob("*")), "it was not killed while it wrote"
    subprocess.run(command(killed, script, 0), check=True, stdout=subprocess.DEVNULL)
    assert files(killed) == files(whole)


@pytest.mark.timeout(120)
def test_two_processes_that_write_at_once_leave_whole_files(tmp_path: Path) -> None:
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    undisturbed = open_cache(whole)
    for view in range(2):
        undisturbed.prepare(view)
    calls = [command(shared, tmp_path / "script.py", pause) for pause in (0.03, 0.02)]
    processes = [subprocess.Popen(call, stdout=subprocess.DEVNULL, env=os.environ) for call in calls]
    assert [process.wait() for process in processes] == [0, 0]
    assert files(shared) == files(whole)
    assert all(json.loads(note.read_text()) for note in shared.rglob("*.json"))


def test_caches_that_push_each_other_out_still_give_right_answers(tmp_path: Path) -> None:
    """Two teachers share a bound that holds one of them only."""
    faults: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(5):
                cache = open_cache(tmp_path, identity={"teacher": name}, max_bytes=5 * SHARD_BYTES)
                cache.prepare(0)
                indices = np.arange(0, EXAMPLES, 50)
                np.testing.assert_array_equal(cache.answers(indices, 0)["logits"], compute(0, indices)["logits"])
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
