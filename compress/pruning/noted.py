"""Numbers that take long to find, on disk as soon as each is known: a search that is interrupted finds them there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


class Noted:
    """Numbers by name.

    Args:
        place: a file, each line of which is a name and a number; processes may share it, each only adds lines. None:
            kept in memory only.
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
                with self.place.open("a", encoding="utf-8") as file:  # the first break ends a line that was broken off
                    file.write("\n" + json.dumps([name, self.known[name]]) + "\n")
        return self.known[name]


def _read(place: Path) -> dict[str, float]:
    """What was written whole."""
    found = {}
    for line in place.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            name, number = json.loads(line)
            found[str(name)] = float(number)
        except (ValueError, TypeError):
            continue
    return found
