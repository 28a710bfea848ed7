"""Images decoded once: a memory-mapped file in the user's cache folder, named by the content that it was made of.

Decoding takes most of the time of reading images (WebP of 32x32 pixels: 0.1 ms each, where a memory map takes 1 us).
The file is made when a split is really read through, not by a rehearsal's few batches, and not where it would take
more than `MOST_BYTES`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.locations import cache_folder
from compress.data.splits import Indices, Split

FORMAT = 1
MOST_BYTES = 4 * 1024**3
"""Decoded examples are not cached on disk if all of a split take more."""

FEWEST = 1000
"""Splits of fewer examples are not worth a file."""

_DECODING = Lock()
"""Threads that read ahead wait for the one that decodes a whole split."""

_PIXELS, _INDEX = "pixels.bin", "index.json"


@dataclass(frozen=True)
class Mapped:
    """Decoded examples in one file: where each starts, its shape and type."""

    pixels: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    shapes: list[tuple[int, ...]]
    dtypes: list[str]

    def example(self, index: int) -> npt.NDArray[Any]:
        """A view into the file."""
        piece = self.pixels[self.starts[index] : self.starts[index + 1]]
        return piece.view(self.dtypes[index]).reshape(self.shapes[index])


class Decoded:
    """A split whose `raw` reads a file of decoded examples, once a quarter of them have been decoded one by one."""

    def __init__(self, split: Split, content: str) -> None:
        """`content` identifies the examples: a digest of their source."""
        self._split = split
        key = hashlib.sha256(f"{FORMAT} {content} {len(split)}".encode()).hexdigest()
        self._folder = cache_folder() / "decoded" / key
        self._mapped = _read(self._folder, len(split))
        self._decoded = 0
        self._refused = len(split) < FEWEST

    def __len__(self) -> int:
        return len(self._split)

    def raw(self, indices: Indices) -> list[npt.NDArray[Any]]:
        """The decoded inputs."""
        mapped = self._mapped or self._made(len(indices))
        if mapped is None:
            return self._split.raw(indices)
        return [mapped.example(int(index)) for index in indices]

    def targets(self, indices: Indices) -> npt.NDArray[Any]:
        """The targets of the split."""
        return self._split.targets(indices)

    def _made(self, more: int) -> Mapped | None:
        """The file, if it is worth it now that so many more are asked for."""
        with _DECODING:
            self._decoded += more
            if self._mapped is None and not self._refused and 4 * self._decoded >= len(self):
                self._mapped = _write(self._split, self._folder)
                self._refused = self._mapped is None
            return self._mapped


def _read(folder: Path, count: int) -> Mapped | None:
    try:
        index = json.loads((folder / _INDEX).read_text())
        pixels = np.asarray(np.memmap(folder / _PIXELS, dtype=np.uint8, mode="r"))  # slices of a plain array are faster
    except (OSError, ValueError):
        return None
    kinds = [(tuple(shape), str(dtype)) for shape, dtype in index["kinds"]]
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in kinds]
    examples = index["examples"] if len(kinds) > 1 else [0] * count
    starts = np.concatenate([[0], np.cumsum([sizes[kind] for kind in examples])]).astype(np.int64)
    if len(examples) != count or starts[-1] != len(pixels):
        return None
    return Mapped(pixels, starts, [kinds[kind][0] for kind in examples], [kinds[kind][1] for kind in examples])


def _write(split: Split, folder: Path) -> Mapped | None:
    """Decode everything into `folder` by way of a draft beside it; None where that is too much or cannot be written."""
    sample = split.raw(np.linspace(0, len(split) - 1, 32).astype(np.int64))
    if sum(example.nbytes for example in sample) / len(sample) * len(split) > MOST_BYTES:
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{folder.name[:12]}.", dir=folder.parent))
    except OSError:
        return None
    try:
        _fill(split, draft)
        with contextlib.suppress(OSError):  # another process was first: its file is as good
            os.rename(draft, folder)  # noqa: PTH104 - fails where the folder exists, as it should
    except OSError:
        return None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return _read(folder, len(split))


def _fill(split: Split, draft: Path) -> None:
    kinds: dict[tuple[tuple[int, ...], str], int] = {}
    examples = []
    with (draft / _PIXELS).open("wb") as stream:
        for start in range(0, len(split), 256):
            for example in split.raw(range(start, min(start + 256, len(split)))):
                examples.append(kinds.setdefault((example.shape, example.dtype.str), len(kinds)))
                stream.write(np.ascontiguousarray(example).tobytes())
    index = {"kinds": list(kinds), "examples": examples if len(kinds) > 1 else []}
    (draft / _INDEX).write_text(json.dumps(index))
