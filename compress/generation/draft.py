"""Work that is done but not finished: lines on disk that survive a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DRAFT_FILE = "draft.jsonl"
Entry = dict[str, Any]
"""One line: `id`, `sample` and what belongs to them, as plain data."""


class Draft:
    """Entries by (id, sample), in memory and in `folder` (None: in memory alone).

    An entry takes the place of one with the same (id, sample) before it. Appended entries are on the disk when
    `append` returns. Of a line that a kill has torn nothing is read. A draft of another `identity` is begun anew.
    """

    def __init__(self, folder: Path | None, identity: str) -> None:
        self.file = None if folder is None else folder / DRAFT_FILE
        self.entries: dict[tuple[int, int], Entry] = {}
        self._header = {"identity": identity}
        if self.file is not None:
            self._open(self.file)

    def append(self, entries: Sequence[Entry]) -> None:
        """Keep more entries."""
        self.entries |= {(entry["id"], entry["sample"]): entry for entry in entries}
        if self.file is not None and entries:
            _append(self.file, entries)

    def _open(self, file: Path) -> None:
        content = file.read_bytes() if file.is_file() else b""
        lines, whole = _parsed(content)
        if not lines or lines[0] != self._header:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
            _append(file, [self._header])
            return
        if whole < len(content):
            os.truncate(file, whole)
        self.entries = {(entry["id"], entry["sample"]): entry for entry in lines[1:]}


def _append(file: Path, lines: Sequence[Entry]) -> None:
    with file.open("ab") as stream:
        stream.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        stream.flush()
        os.fsync(stream.fileno())


def _parsed(content: bytes) -> tuple[list[Entry], int]:
    """The lines up to the first that is torn, and how many bytes they are."""
    found: list[Entry] = []
    whole = 0
    for line in content.split(b"\n")[:-1]:
        try:
            found.append(json.loads(line))
        except ValueError:  # the disk lost power before it had all
            break
        whole += len(line) + 1
    return found, whole
