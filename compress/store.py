"""Artifacts by content, records by what was asked: atomic, verified, safe for two runs at once.

Layout of a store::

    artifacts/<digest>/      a folder's files; the digest covers its sorted list of names and hashes
    records/<key>.json       what one step gave; written last, so that no record means no result
    progress/<key>/          training checkpoints of a step that has not finished
    scratch/<random>/        where steps write before they are committed by rename
    locks/<key>.lock         one per key: a second run waits, then reuses
    roots/<name>.json        the keys that the latest run of a pipeline names; `gc` keeps these
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from compress.errors import StageError


@dataclass(frozen=True)
class Record:
    """What one step gave: the digest of its artifact, its metrics, and what it was made with."""

    name: str
    verb: str
    key: str
    input_digests: dict[str, str]
    digest: str
    metrics: dict[str, Any]
    seconds: float
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unused:
    """Something in the store that no run names."""

    path: Path
    size_bytes: int


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """The sha256 of a folder: of its sorted list of files (relative, with `/`) and their hashes, one a line."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = sorted(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class Store:
    """A store in a folder, which is made when something is first written into it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._verified: set[str] = set()

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new empty folder on the store's file system; what is left in it at the end is removed."""
        parent = self.root / "scratch"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        lock = FileLock(folder / ".lock")
        with lock:
            try:
                work = folder / "out"
                work.mkdir()
                yield work
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def put(self, folder: Path) -> str:
        """Move a finished scratch folder in; return the digest of its content."""
        digest = folder_sha256(folder)
        home = self.artifact(digest)
        if home.exists() and folder_sha256(home) != digest:
            shutil.rmtree(home)
        home.parent.mkdir(parents=True, exist_ok=True)
        if not home.exists():
            try:
                folder.rename(home)
            except OSError:  # another run has put the same content there meanwhile
                if not home.exists():
                    raise
        self._verified.add(digest)
        return digest

    def artifact(self, digest: str) -> Path:
        """The folder in which an artifact lies."""
        return self.root / "artifacts" / digest

    def holds(self, digest: str) -> bool:
        """Whether an artifact is there and its content is still what its digest says."""
        home = self.artifact(digest)
        if digest not in self._verified and home.is_dir() and folder_sha256(home) == digest:
            self._verified.add(digest)
        return digest in self._verified and home.is_dir()

    def record(self, record: Record) -> None:
        """Write a record: from here on its step is done. Its checkpoints are dropped."""
        write_atomically(self._record_file(record.key), json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")
        shutil.rmtree(self.progress(record.key), ignore_errors=True)

    def find(self, key: str) -> Record | None:
        """The record for a key whose artifact is there and whole."""
        record = self.peek(key)
        return record if record is not None and self.holds(record.digest) else None

    def peek(self, key: str) -> Record | None:
        """The record for a key if its artifact's folder is there; content is not verified."""
        try:
            record = Record(**json.loads(self._record_file(key).read_text()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (json.JSONDecodeError, TypeError):  # written by another version, or damaged: as good as none
            return None
        return record if self.artifact(record.digest).is_dir() else None

    def forget(self, key: str) -> None:
        """Drop a record, so that its step will run again."""
        self._record_file(key).unlink(missing_ok=True)

    def progress(self, key: str) -> Path:
        """The folder for a step's checkpoints (not made here)."""
        return self.root / "progress" / key

    @contextlib.contextmanager
    def lock(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a key. If another run holds it, `waiting` is called once, and this one waits."""
        parent = self.root / "locks"
        parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(parent / f"{key}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire(poll_interval=0.2)
        try:
            yield
        finally:
            lock.release()

    def set_root(self, name: str, folder: Path, keys: Iterable[str], *, finished: bool) -> None:
        """Say which keys the run in `folder` names. A finished run names them as long as its folder exists."""
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        home = os.path.relpath(folder.resolve(), self.root)
        content = {"folder": home, "keys": sorted(set(keys)), "finished": finished}
        write_atomically(self.root / "roots" / f"{name}-{identity}.json", json.dumps(content, indent=1) + "\n")

    def unused(self) -> list[Unused]:
        """What no run names: records, artifacts, checkpoints and abandoned scratch folders."""
        named = self._named_keys()
        kept = {record.digest for key in named if (record := self.peek(key)) is not None}
        found = [path for path in self._children("records") if path.stem not in named]
        found += [path for path in self._children("artifacts") if path.name not in kept]
        found += [path for path in self._children("progress") if path.name not in named]
        found += [path for path in self._children("scratch") if _is_abandoned(path)]
        return [Unused(path, _size_bytes(path)) for path in found]

    def free(self, unused: Iterable[Unused]) -> int:
        """Remove what `unused` found; return the bytes freed."""
        freed = 0
        for item in unused:
            if item.path.is_dir():
                shutil.rmtree(item.path, ignore_errors=True)
            else:
                item.path.unlink(missing_ok=True)
            freed += item.size_bytes
        return freed

    def _named_keys(self) -> set[str]:
        named: set[str] = set()
        for path in self._children("roots"):
            try:
                root = json.loads(path.read_text())
                if not root["finished"] or (self.root / root["folder"]).exists():
                    named.update(root["keys"])
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                message = f"{path}: damaged list of a run's keys; delete it to let `compress gc` go on"
                raise StageError(message) from error
        return named

    def _children(self, name: str) -> list[Path]:
        folder = self.root / name
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []

    def _record_file(self, key: str) -> Path:
        return self.root / "records" / f"{key}.json"


def _is_abandoned(folder: Path) -> bool:
    """Whether no living run holds a scratch folder (a minute's grace for one that is just being made)."""
    lock = FileLock(folder / ".lock")
    try:
        if time.time() - folder.stat().st_mtime < 60 and not (folder / ".lock").exists():
            return False
        lock.acquire(timeout=0)
    except (Timeout, FileNotFoundError):
        return False
    lock.release()
    return True


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(child.stat().st_size for child in path.rglob("*") if child.is_file())
