"""Large files unpacked once into the cache folder, to be memory-mapped there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from compress.data.drafts import drafted
from compress.errors import StageError


def unpack_once(file: Path, target: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Let `write` make `target` of what lies in `file`, unless it is there.

    Raises:
        StageError: the cache folder cannot be written, or is full.
    """
    if target.is_file():
        return
    try:
        with drafted(target) as stream:
            write(stream)
    except OSError as error:
        raise StageError(
            f"data: {file.name} is too large for memory and cannot be unpacked into {target.parent} ({error}); "
            "name a folder with room as the environment variable COMPRESS_CACHE"
        ) from error
