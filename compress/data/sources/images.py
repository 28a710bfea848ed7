"""Folders of images: `cat/1.png`, `dog/2.jpg`, or the same in `train`, `validation` and `test`. Read on access."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compress.data.classes import class_numbers
from compress.data.decoded import Decoded
from compress.data.digests import text_digest, walk
from compress.data.pictures import decode
from compress.data.source_settings import Images
from compress.data.split_names import SPLIT_WORDS
from compress.data.splits import Indices, Opened, Split
from compress.errors import UsageError

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_SPLIT_OF = {word: split for split, words in SPLIT_WORDS.items() for word in words}


@dataclass(frozen=True)
class FileSplit:
    """Image files, read and decoded at each access, and class numbers."""

    files: tuple[Path, ...]
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    def raw(self, indices: Indices) -> list[npt.NDArray[Any]]:
        """The decoded images."""
        return [decode(self.files[int(index)], str(self.files[int(index)])) for index in indices]

    def targets(self, indices: Indices) -> npt.NDArray[np.int64]:
        """The class numbers."""
        return self.classes[np.asarray(indices, dtype=np.int64)]


def open_images(settings: Images, labels: tuple[str, ...] | None) -> Opened:
    """The splits that are named or lie in a folder, or one with everything; classes are numbered by sorted names.

    Raises:
        UsageError: no class folders, no images in one, or split folders beside class folders.
    """
    folders = settings.folders() if settings.path is None else _split_folders(settings.path)
    files = {split: _class_files(folder) for split, folder in folders.items()}
    names = {split: [name for name, _ in found] for split, found in files.items()}
    numbers, order = class_numbers(names, labels, f"the folder {settings.path or settings.train}")
    content = text_digest(settings.identity()["content"])
    splits: dict[str, Split] = {}
    for split, found in files.items():
        splits[split] = Decoded(FileSplit(tuple(file for _, file in found), numbers[split]), f"{content}-{split}")
    return Opened(splits, order, images=True)


def _split_folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise UsageError(f"data: {root} is no folder; source `images` reads a folder of class folders")
    folders = _subfolders(root)
    if not any(folder.name == "train" for folder in folders):
        return {"train": root}
    found: dict[str, Path] = {}
    for folder in folders:
        split = _SPLIT_OF.get(folder.name)
        if split is None:
            raise UsageError(f"data: {root} has the folder `train` and beside it {folder.name!r}, which is no split")
        if split in found:
            raise UsageError(f"data: {root} has two {split} folders: {found[split].name} and {folder.name}")
        found[split] = folder
    return found


def _class_files(folder: Path) -> list[tuple[str, Path]]:
    """(class name, file), in an order that mixes the classes and does not depend on where the folder lies."""
    if not folder.is_dir():
        raise UsageError(f"data: {folder} is no folder; source `images` reads folders of class folders")
    found = []
    for class_folder in _subfolders(folder):
        files = [class_folder / name for name, _ in walk(class_folder) if Path(name).suffix.lower() in ENDINGS]
        if not files:
            raise UsageError(f"data: no images in {class_folder} ({', '.join(sorted(ENDINGS))} are read)")
        found += [(class_folder.name, file) for file in files]
    if not found:
        inside = sorted(path.name for path in folder.iterdir())[:5]
        raise UsageError(f"data: {folder} has no class folders; it holds {', '.join(inside) or 'nothing'}")

    def mixed(item: tuple[str, Path]) -> bytes:
        return hashlib.sha256(item[1].relative_to(folder).as_posix().encode()).digest()

    return sorted(found, key=mixed)


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
