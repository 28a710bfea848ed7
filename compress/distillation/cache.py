"""A frozen teacher's answers on disk: computed once, in shards that are checked when they are read.

    <folder>/<key>/view-003/shard-00012.logits.npy       float16, examples x classes
    <folder>/<key>/view-003/shard-00012.json             its digests, written last

A shard's content is a function of teacher, data, view and shard number alone, so that a killed run, run again, leaves
the same files as one that was never disturbed. A shard whose bytes are not those that were written is made anew. One
process writes at a time, the others wait for it, so that none removes what another is writing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from compress.data.digests import text_digest
from compress.errors import UsageError

SHARD = 1024
"""Examples in a shard."""
FORMAT = 1
Arrays = dict[str, np.ndarray[Any, Any]]
Compute = Callable[[int, np.ndarray[Any, np.dtype[np.int64]]], Arrays]
"""(view, example numbers) -> the teacher's answers to them, an array or several, examples first."""


class AnswerCache:
    """The answers of one teacher to one training split, view by view.

    Args:
        folder: where all caches lie.
        identity: plain data that tells these answers from any other: teacher, data, augmentation, form.
        examples: how many the split has.
        compute: makes the answers that are not there yet.
        max_bytes: bound for all caches in `folder` together.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], examples: int, compute: Compute, max_bytes: int
    ) -> None:
        self.key = text_digest({"format": FORMAT, "shard": SHARD, **identity})
        self.folder, self.root, self.examples, self.max_bytes = folder / self.key, folder, examples, max_bytes
        self._compute = compute
        self._open: dict[tuple[int, int], Arrays] = {}

    @property
    def shards(self) -> int:
        """How many shards a view has."""
        return -(-self.examples // SHARD)

    def prepare(self, view: int, own: range | None = None, advance: Callable[[int], None] | None = None) -> None:
        """Make what is missing or broken of a view; with `own` only those shards, the rest being other processes'.

        Raises:
            UsageError: the answers would not fit into the bound.
        """
        for shard in own if own is not None else range(self.shards):
            indices = self._indices(shard)
            if self._checked(view, shard) is None:
                self._write(view, shard, self._compute(view, indices))
            if advance is not None:
                advance(len(indices))

    def answers(self, indices: np.ndarray[Any, np.dtype[np.int64]], view: int) -> Arrays:
        """The answers to examples of a view that was prepared, in their order."""
        shards = indices // SHARD
        result: Arrays = {}
        for shard in np.unique(shards):
            arrays = self._shard(view, int(shard))
            here = shards == shard
            for name, array in arrays.items():
                if name not in result:
                    result[name] = np.empty((len(indices), *array.shape[1:]), dtype=array.dtype)
                result[name][here] = array[indices[here] - shard * SHARD]
        return result

    def has(self, view: int) -> bool:
        """Whether a view is there as a whole, and in order."""
        return all(self._checked(view, shard) is not None for shard in range(self.shards))

    def _shard(self, view: int, shard: int) -> Arrays:
        arrays = self._open.get((view, shard)) or self._checked(view, shard)
        if arrays is None:  # gone or damaged since it was prepared
            made = self._compute(view, self._indices(shard))
            self._write(view, shard, made)
            arrays = self._checked(view, shard) or made
        return arrays

    def _checked(self, view: int, shard: int) -> Arrays | None:
        """A shard, memory-mapped; None if it is not there or its bytes are not those that were written."""
        known = self._open.get((view, shard))
        if known is not None:
            return known
        note = self._note(view, shard)
        try:
            digests = json.loads(note.read_text())
            if not isinstance(digests, dict) or not digests:
                return None
            files = {name: note.with_suffix(f".{name}.npy") for name in digests}
            if any(_digest(files[name]) != digest for name, digest in digests.items()):
                return None
            arrays = {name: np.load(file, mmap_mode="r") for name, file in files.items()}
        except (OSError, ValueError):
            return None
        with contextlib.suppress(OSError):
            os.utime(self.folder)  # it was used
        self._open[view, shard] = arrays
        return arrays

    def _write(self, view: int, shard: int, arrays: Arrays) -> None:
        note = self._note(view, shard)
        contents = {name: _saved(array) for name, array in arrays.items()}
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "writing.lock"):
            if self._checked(view, shard) is not None:  # another process was faster
                return
            note.parent.mkdir(parents=True, exist_ok=True)
            for stale in note.parent.glob(f"{note.stem}.*"):
                stale.unlink()
            self._make_room(sum(map(len, contents.values())))
            for name, content in contents.items():
                _put(note.with_suffix(f".{name}.npy"), content)
            digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
            _put(note, json.dumps(digests, sort_keys=True).encode())

    def _make_room(self, wanted: int) -> None:
        """Remove the caches that were not used for the longest time until there is room.

        Raises:
            UsageError: this cache alone goes over the bound.
        """
        os.utime(self.folder)
        folders = {entry: _size(entry) for entry in self.root.iterdir() if entry.is_dir()}
        if folders[self.folder] + wanted > self.max_bytes:
            raise UsageError(
                f"the teacher's answers take more than {self.max_bytes:,} bytes: raise `cache.max_bytes`, lower "
                "`cache.views`, or write `cache: off`"
            )
        total = sum(folders.values()) + wanted
        for folder in sorted(folders, key=lambda entry: entry.stat().st_mtime_ns):
            if total <= self.max_bytes:
                break
            if folder != self.folder:
                total -= folders[folder]
                shutil.rmtree(folder, ignore_errors=True)

    def _indices(self, shard: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.arange(shard * SHARD, min((shard + 1) * SHARD, self.examples))

    def _note(self, view: int, shard: int) -> Path:
        return self.folder / f"view-{view:03d}" / f"shard-{shard:05d}.json"


def _saved(array: np.ndarray[Any, Any]) -> bytes:
    """The content of a `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _put(file: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; a draft that a killed process left is overwritten."""
    draft = file.with_name(f"{file.name}.draft")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
