"""Numbers that take long to find, on disk as soon as each is known: a search that is interrupted finds them there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path


class Noted:
    """Numbers by name.

    Args:
        place: a file that belongs to one search, each line of which is a name and a number; None: kept in memory only.
    """

    def __init__(self, place: Path | None = None) -> None:
        self.place = place
        self.known = _read(place) if place is not None and place.is_file() else {}

    def get(self, name: str, find: Callable[[], float]) -> float:
        """The number of a name, found and written down if it is not known."""
        if name not in self.known:
            self.known[name] = find()
            if self.place is not None:
                self.place.parent.mkdir(parents=True, exist_ok=True)
                with self.place.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, self.known[name]]) + "\n")
        return self.known[name]


def _read(place: Path) -> dict[str, float]:
    """What was written whole; a last line that was broken off is taken out of the file."""
    written = place.read_bytes()
    whole, _, broken = written.rpartition(b"\n")
    if broken:
        os.truncate(place, len(written) - len(broken))
    pairs = [json.loads(line) for line in whole.splitlines()]
    return {str(name): float(number) for name, number in pairs}
