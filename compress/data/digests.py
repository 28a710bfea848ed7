"""What files hold: SHA-256 of contents, remembered by path, size and time of change. Standard library only.

The memory is one small JSON file in the user's cache folder. It only saves time: where it cannot be read or written,
contents are read again. A file changed within the last two seconds is not remembered, because a second change might
leave size and time as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from compress.data.drafts import write_whole
from compress.data.locations import cache_folder

_SETTLED_NS = 2_000_000_000
_MOST_REMEMBERED = 5000


def text_digest(value: Any) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, remembered."""
    status = path.stat()
    return _remembered(str(path.resolve()), [status.st_size, status.st_mtime_ns], status.st_mtime_ns, path, _read_file)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the sorted names and contents of the files below `folder`, hidden ones left out; remembered whole.

    Remembering costs one look at each file's size and time, so that a folder of a million images is read only once.
    """
    listing = [(name, status.st_size, status.st_mtime_ns) for name, status in walk(folder)]
    newest = max((changed for _, _, changed in listing), default=0)
    return _remembered(f"{folder.resolve()}{os.sep}", text_digest(listing), newest, folder, _read_folder)


def walk(folder: Path) -> list[tuple[str, os.stat_result]]:
    """The files below `folder` as (relative name with forward slashes, status), sorted; hidden ones left out."""
    found = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(root)
        for name in files:
            if not name.startswith("."):
                path = place / name
                found.append((path.relative_to(folder).as_posix(), path.stat()))
    return sorted(found, key=lambda item: item[0])


def path_digest(path: Path) -> str:
    """The digest of a file or of a folder."""
    return folder_digest(path) if path.is_dir() else file_digest(path)


def recall(key: str) -> Any:
    """What was remembered under `key`, or None."""
    return _load().get(key)


def remember(key: str, value: Any) -> None:
    """Keep plain data under `key`; a cache folder that cannot be written is no fault.

    Of two processes that remember at once, one may lose what it kept, and reads the content again.
    """
    memory = _load()
    memory.pop(key, None)
    memory[key] = value
    for oldest in list(memory)[: max(0, len(memory) - _MOST_REMEMBERED)]:
        del memory[oldest]
    with contextlib.suppress(OSError):
        write_whole(_memory_file(), json.dumps(memory))


def _remembered(key: str, seen: Any, changed_ns: int, path: Path, read: Any) -> str:
    known = recall(key)
    if isinstance(known, list) and len(known) == 2 and known[0] == seen:
        return str(known[1])
    digest = str(read(path))
    if time.time_ns() - changed_ns > _SETTLED_NS:
        remember(key, [seen, digest])
    return digest


def _read_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_folder(folder: Path) -> str:
    return text_digest([(name, _read_file(folder / name)) for name, _ in walk(folder)])


def _memory_file() -> Path:
    return cache_folder() / "digests.json"


def _load() -> dict[str, Any]:
    try:
        memory = json.loads(_memory_file().read_text())
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}
