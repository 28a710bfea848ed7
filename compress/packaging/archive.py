"""Archives whose bytes depend on their content alone, and that say the sha256 of each of their files.

Names are sorted, times, owners and permissions fixed; `SHA256SUMS` comes last and is what `sha256sum --check` reads.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from compress.errors import UsageError
from compress.report.write import replacing
from compress.stage import Progress, Silent

SUMS_FILE = "SHA256SUMS"
TAR, ZIP = ".tar.gz", ".zip"
CHUNK_BYTES = 2**20
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip file can say."""
_SECONDS = 315532800
"""The same, since 1970."""
_MODE = 0o644
_SILENT = Silent()

Content = bytes | Path


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """The next `size` bytes, or all."""


Add = Callable[[str, int, Readable], None]


def write_archive(out: Path, root: str, members: Mapping[str, Content], progress: Progress = _SILENT) -> None:
    """Write `members` (names with `/` -> bytes, or the file that holds them) into `out`, in a folder called `root`.

    The archive appears under its name when it is whole; nothing is left of one that was interrupted. Digests are of the
    bytes as they were written into it.

    Raises:
        UsageError: `out` is there already, its folder is not, the disk is full, or its name ends neither in `.tar.gz`
            nor in `.zip`.
    """
    kind = _kind(out)
    if out.exists():
        raise UsageError(f"{out}: is there already; remove it, or give another name with --out")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}; make it, or give another name with --out")
    total = sum(len(content) if isinstance(content, bytes) else content.stat().st_size for content in members.values())
    try:
        with replacing(out) as scratch, progress.task(f"packing {out.name} (MB)", -(-total // CHUNK_BYTES)) as advance:
            _write(scratch, kind, root, members, advance)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error}); nothing is left of it") from error


def _write(path: Path, kind: str, root: str, members: Mapping[str, Content], advance: Callable[..., None]) -> None:
    sums = {}
    with (_adding_to_tar if kind == TAR else _adding_to_zip)(path) as add:
        for name in sorted(members):
            with _opened(members[name]) as (file, size):
                counted = _Counted(file, advance)
                add(f"{root}/{name}", size, counted)
                sums[name] = counted.total.hexdigest()
        text = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
        add(f"{root}/{SUMS_FILE}", len(text), io.BytesIO(text))


def check_archive(path: Path, progress: Progress = _SILENT) -> dict[str, str]:
    """The sha256 of each file of an archive, if all are those that its `SHA256SUMS` lists and no others are there.

    Raises:
        UsageError: it is no such archive, or files of it were changed, are missing, or are more than it lists.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    found, listed = {}, None
    try:
        with progress.task(f"checking {path.name}", None) as advance:
            for name, file in _members(path):
                inside = _inside(path, name)
                if inside in found or (inside == SUMS_FILE and listed is not None):
                    raise UsageError(f"{path}: holds {name} twice; it was not made by `compress package`")
                if inside == SUMS_FILE:
                    listed = file.read().decode()
                else:
                    counted = _Counted(file, advance)
                    while counted.read(CHUNK_BYTES):
                        pass
                    found[inside] = counted.total.hexdigest()
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise UsageError(f"{path}: is damaged, or no archive ({error}); pack the run again") from error
    if listed is None:
        raise UsageError(f"{path}: has no {SUMS_FILE}; it was not made by `compress package`")
    _compare(path, found, listed)
    return found


def _compare(path: Path, found: Mapping[str, str], listed: str) -> None:
    told = {}
    for line in listed.splitlines():
        digest, _, name = line.partition("  ")
        told[name] = digest
    faults = [f"{name} was changed" for name in sorted(found.keys() & told) if found[name] != told[name]]
    faults += [f"{name} is missing" for name in sorted(told.keys() - found)]
    faults += [f"{name} is not listed" for name in sorted(found.keys() - told)]
    if faults:
        raise UsageError(f"{path}: does not hold what its {SUMS_FILE} says: {'; '.join(faults)}")


def _inside(path: Path, name: str) -> str:
    """A member's name below the archive's one folder."""
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or name.startswith("/") or ".." in parts or "\\" in name:
        raise UsageError(f"{path}: holds {name!r}, which lies outside of its folder; do not unpack it")
    return "/".join(parts[1:])


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an archive, read from its start to its end."""
    if _kind(path) == ZIP:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as file:
                    yield info.filename, file
        return
    with tarfile.open(path, "r|gz") as tar:
        for member in tar:
            held = tar.extractfile(member) if member.isreg() else None
            if held is None:
                raise UsageError(f"{path}: holds {member.name}, which is no plain file; do not unpack it")
            yield member.name, held


@contextmanager
def _adding_to_tar(path: Path) -> Iterator[Add]:
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as archive,
    ):

        def add(name: str, size: int, file: Readable) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = size, _SECONDS, _MODE
            archive.addfile(info, file)

        yield add


@contextmanager
def _adding_to_zip(path: Path) -> Iterator[Add]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, size: int, file: Readable) -> None:
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system, info.external_attr, info.compress_type = 3, _MODE << 16, zipfile.ZIP_DEFLATED
            info.file_size = size
            with archive.open(info, "w", force_zip64=size >= 2**31) as member:
                while chunk := file.read(CHUNK_BYTES):
                    member.write(chunk)

        yield add


class _Counted:
    """A file that is read once: sums up its digest, and says how far it is."""

    def __init__(self, file: Readable, advance: Callable[..., None]) -> None:
        self.file, self.advance, self.total, self.seen = file, advance, hashlib.sha256(), 0

    def read(self, size: int = -1, /) -> bytes:
        """The next `size` bytes, or all."""
        chunk = self.file.read(size)
        self.total.update(chunk)
        before, self.seen = self.seen, self.seen + len(chunk)
        if steps := self.seen // CHUNK_BYTES - before // CHUNK_BYTES:
            self.advance(steps)
        return chunk


@contextmanager
def _opened(content: Content) -> Iterator[tuple[IO[bytes], int]]:
    if isinstance(content, bytes):
        yield io.BytesIO(content), len(content)
    else:
        with content.open("rb") as file:
            yield file, content.stat().st_size


def _kind(path: Path) -> str:
    for kind in (TAR, ZIP):
        if path.name.endswith(kind) and path.name != kind:
            return kind
    raise UsageError(f"{path}: an archive's name ends in {TAR} or {ZIP}")
