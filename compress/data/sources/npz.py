"""NumPy archives. A member stored as it is (`numpy.savez`) is memory-mapped inside the archive."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from compress.data.digests import file_digest
from compress.data.locations import cache_folder
from compress.data.source_settings import Npz
from compress.data.sources.unpacked import unpack_once
from compress.data.split_names import SPLIT_WORDS
from compress.data.splits import ArraySplit, Opened, Split
from compress.errors import UsageError

Array = npt.NDArray[Any]

IN_MEMORY_BYTES = 256 * 1024**2
"""Compressed members of more bytes are unpacked once into the cache folder and memory-mapped there."""

_LOCAL_HEADER_BYTES = 30


def open_npz(settings: Npz, labels: tuple[str, ...] | None) -> Opened:
    """The splits that the archives hold.

    Raises:
        UsageError: a missing array, one of Python objects, or inputs and targets of different lengths.
    """
    if "{split}" in settings.input:
        return Opened(_splits_in_one(settings), labels)
    splits: dict[str, Split] = {}
    for split, files in settings.files().items():
        inputs = [read_member(file, settings.input) for file in files]
        targets = [read_member(file, settings.target) for file in files]
        for file, ours, theirs in zip(files, inputs, targets, strict=True):
            _require_equal_lengths(file, settings.input, ours, settings.target, theirs)
        splits[split] = ArraySplit(_joined(files, inputs, settings.input), _joined(files, targets, settings.target))
    return Opened(splits, labels)


def read_member(file: Path, name: str) -> Array:
    """The array `name` of an archive, memory-mapped if it is stored or large."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
            if name not in members:
                raise UsageError(f"data: {file} has no array {name!r}; it has {', '.join(members) or 'none'}")
            member = members[name]
            if member.compress_type == zipfile.ZIP_STORED:
                return _map_inside(file, member)
            if member.file_size > IN_MEMORY_BYTES:
                return _unpacked(file, archive, member)
            with archive.open(member) as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise UsageError(f"data: {file}, array {name!r}, cannot be read: {error}") from error


def _map_inside(file: Path, member: zipfile.ZipInfo) -> Array:
    with file.open("rb") as stream:
        stream.seek(member.header_offset)
        header = stream.read(_LOCAL_HEADER_BYTES)
        name_bytes, extra_bytes = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
        stream.seek(member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes)
        shape, fortran, dtype = _read_header(stream)
        offset = stream.tell()
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    return np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects; save numbers of one shape")
    return shape, fortran, dtype


def _unpacked(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    key = hashlib.sha256(f"{file_digest(file)} {member.filename}".encode()).hexdigest()
    target = cache_folder() / "arrays" / f"{key}.npy"

    def write(stream: IO[bytes]) -> None:
        with archive.open(member) as packed:
            shutil.copyfileobj(packed, stream, 1024**2)

    unpack_once(file, target, write)
    return np.asarray(np.load(target, mmap_mode="r", allow_pickle=False))


def _splits_in_one(settings: Npz) -> dict[str, Split]:
    """x_train, x_val and x_test of one file, for the pattern x_{split}."""
    files = settings.path or ()
    if len(files) != 1:
        raise UsageError(f"data: a pattern with {{split}} reads one file, got {len(files)}")
    file = files[0]
    try:
        with zipfile.ZipFile(file) as archive:
            members = {name.removesuffix(".npy") for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise UsageError(f"data: {file} cannot be read: {error}") from error
    splits: dict[str, Split] = {}
    for split, words in SPLIT_WORDS.items():
        word = next((word for word in words if settings.input.format(split=word) in members), words[0])
        names = settings.input.format(split=word), settings.target.format(split=word)
        if split == "train" or names[0] in members:
            inputs, targets = (read_member(file, name) for name in names)
            _require_equal_lengths(file, names[0], inputs, names[1], targets)
            splits[split] = ArraySplit(inputs, targets)
    return splits


def _require_equal_lengths(file: Path, name: str, inputs: Array, other: str, targets: Array) -> None:
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets):
        raise UsageError(
            f"data: {file}: {name!r} of shape {inputs.shape} and {other!r} of shape {targets.shape} "
            "must have the same number of examples, which is the first axis"
        )


def _joined(files: tuple[Path, ...], arrays: list[Array], name: str) -> Array:
    if len(arrays) == 1:
        return arrays[0]
    if len({array.shape[1:] for array in arrays}) != 1:
        shapes = ", ".join(f"{file.name} {array.shape}" for file, array in zip(files, arrays, strict=True))
        raise UsageError(f"data: the arrays {name!r} of several files must have one shape of example: {shapes}")
    return np.concatenate(arrays)
