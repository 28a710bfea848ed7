"""Files that are there whole or not at all: written as a draft beside their place, then renamed. Light at import."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def drafted(target: Path) -> Iterator[IO[bytes]]:
    """A stream whose content becomes `target` at the end of the block; after an error there nothing is left of it.

    Raises:
        OSError: the folder cannot be made or written into.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".draft", delete=False) as stream:
        draft = Path(stream.name)
        try:
            yield stream
            stream.flush()
            draft.replace(target)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def write_whole(target: Path, text: str) -> None:
    """Write a text in UTF-8 by way of `drafted`."""
    with drafted(target) as stream:
        stream.write(text.encode())
